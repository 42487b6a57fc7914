// The page of `rtstyle webcam --preview browser`: shows the stream, sends commands. See rtstyle/web/preview.py.

const $ = (id) => document.getElementById(id);
let known = null; // the state that was told last
let sliding = 0; // until when the slider is the visitor's and not ours

async function command(word) {
  const answer = await fetch("/command", {
    method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(word),
  });
  if (!answer.ok) say(await answer.text());
  look();
}

function say(message) {
  $("toast").textContent = message;
  $("toast").hidden = !message;
}

function showStyles(names) {
  $("styles").replaceChildren(...names.map((style, place) => {
    const tile = document.createElement("label"), radio = document.createElement("input");
    const image = document.createElement("img"), name = document.createElement("span");
    tile.className = "tile";
    Object.assign(radio, { type: "radio", name: "style", value: style });
    Object.assign(image, { src: `/styles/${place}.jpg`, alt: "" });
    image.addEventListener("error", () => image.remove());
    name.textContent = style.replaceAll("_", " ");
    radio.addEventListener("change", () => command({ style }));
    tile.append(radio, image, name);
    return tile;
  }));
}

function show(state) {
  if (String(state.styles) !== String(known?.styles)) showStyles(state.styles);
  known = state;
  $("figures").textContent = state.figures;
  for (const radio of document.querySelectorAll("#styles input")) {
    radio.checked = radio.value === (state.loading ?? state.style);
    radio.parentElement.classList.toggle("loading", radio.value === state.loading);
  }
  for (const box of document.querySelectorAll("[data-state]")) box.checked = state[box.dataset.state];
  if (performance.now() > sliding) $("strength").value = Math.round(100 * state.strength);
  $("strength-value").textContent = ($("strength").value / 100).toFixed(2);
  $("recording").hidden = !state.recording;
  $("record").classList.toggle("on", state.recording);
  $("record").textContent = state.recording ? "Stop" : "Record";
}

let lost = false;
async function look() {
  try {
    const answer = await fetch("/state");
    if (!answer.ok) throw new Error(await answer.text());
    show(await answer.json());
    if (lost) $("picture").src = `/stream.mjpg?${Date.now()}`;
    if (lost) say("");
    lost = false;
  } catch {
    lost = true;
    say("The session has ended. Waiting for it to come back …");
  }
}

for (const part of document.querySelectorAll("[data-action]")) {
  part.addEventListener(part.type === "checkbox" ? "change" : "click", () => command({ action: part.dataset.action }));
}
$("strength").addEventListener("input", () => {
  sliding = performance.now() + 1500;
  $("strength-value").textContent = ($("strength").value / 100).toFixed(2);
  command({ strength: $("strength").value / 100 });
});
look();
setInterval(look, 700);
