// What both pages have: tiles of styles, keys, full screen.

/** A tile that chooses a style. The first ten have a number, which is their key as in the window. */
export function styleTile(name, place, title, choose, preview = `/styles/${place}.jpg`) {
  const tile = document.createElement("label"), radio = document.createElement("input");
  const image = document.createElement("img"), words = document.createElement("span"), key = document.createElement("kbd");
  tile.className = "tile";
  tile.title = title;
  Object.assign(radio, { type: "radio", name: "style", value: place });
  radio.dataset.name = name;
  Object.assign(image, { src: preview, alt: "" });
  image.addEventListener("error", () => image.remove());
  words.textContent = name.replaceAll("_", " ");
  key.textContent = place < 10 ? (place + 1) % 10 : "";
  key.hidden = place >= 10;
  key.setAttribute("aria-hidden", "true");
  radio.addEventListener("change", () => choose(tile));
  tile.append(radio, image, key, words);
  return tile;
}

/** Call a function for its key; `style` gets the place of a digit. Keys that a control or the browser takes are theirs. */
export function shortcuts(actions) {
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
    if (["SELECT", "TEXTAREA"].includes(event.target.tagName)) return;
    if (event.key === " " && event.target !== document.body) return;
    const digit = "1234567890".indexOf(event.key), key = event.key === "=" ? "+" : event.key.toLowerCase();
    if (digit >= 0) actions.style(digit);
    else if (key in actions && key !== "style") actions[key]();
    else return;
    event.preventDefault();
  });
}

/** Let a button show a part of the page on the whole screen. Where that is not possible, as on iPhones, it goes. */
export function fullScreen(button, part) {
  if (!part.requestFullscreen) { button.remove(); return; }
  button.addEventListener("click", () => (document.fullscreenElement ? document.exitFullscreen() : part.requestFullscreen()));
}
