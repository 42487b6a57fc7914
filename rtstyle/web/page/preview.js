// The page of `rtstyle webcam --preview browser`: shows the stream, sends commands. See rtstyle/web/preview.py.

import { fullScreen, shortcuts, styleTile } from "/controls.js";

const $ = (id) => document.getElementById(id);
let known = null; // the last state received
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
  $("styles").replaceChildren(...names.map((style, place) => styleTile(style, place, style, () => command({ style }))));
}

function showPresets(names) {
  $("presets").hidden = !names.length;
  $("presets").replaceChildren(...names.map((preset, place) => {
    const button = document.createElement("button");
    button.textContent = preset;
    button.title = place < 12 ? `F${place + 1}` : "";
    button.addEventListener("click", () => command({ preset }));
    return button;
  }));
}

function show(state) {
  if (String(state.styles) !== String(known?.styles)) showStyles(state.styles);
  if (String(state.presets) !== String(known?.presets)) showPresets(state.presets);
  known = state;
  $("figures").replaceChildren(...state.figures.split(/ {2,}/).map((words) => {
    const part = document.createElement("span");
    part.textContent = words;
    return part;
  }));
  for (const radio of document.querySelectorAll("#styles input")) {
    radio.checked = radio.dataset.name === (state.loading ?? state.style);
    radio.parentElement.classList.toggle("loading", radio.dataset.name === state.loading);
  }
  if ($("mask").length !== state.masks.length) {
    const words = { off: "Everything", person: "People", background: "Background", file: "From the file" };
    $("mask").replaceChildren(...state.masks.map((mask) => new Option(words[mask], mask)));
  }
  $("mask").value = state.mask;
  for (const box of document.querySelectorAll("[data-state]")) box.checked = Boolean(state[box.dataset.state]);
  for (const button of $("presets").children) button.classList.toggle("chosen", button.textContent === state.preset);
  if (performance.now() > sliding) {
    $("strength").value = Math.round(100 * state.strength);
    $("color").value = Math.round(100 * state.color_strength);
  }
  for (const id of ["strength", "color"]) $(`${id}-value`).textContent = ($(id).value / 100).toFixed(2);
  $("recording").hidden = !state.recording;
  const seconds = Math.floor(state.recorded_seconds);
  $("clock").textContent = `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
  $("record").classList.toggle("on", state.recording);
  $("record").textContent = state.recording ? "Stop" : "Record";
}

let lost = false;
async function look() {
  try {
    const answer = await fetch("/state");
    if (!answer.ok) throw new Error(await answer.text());
    show(await answer.json());
    if (lost) $("view").src = `/stream.mjpg?${Date.now()}`;
    if (lost) say("");
    lost = false;
  } catch {
    lost = true;
    say("The session has ended. Waiting for it to come back …");
  }
}

for (const box of document.querySelectorAll("[data-word]")) {
  box.addEventListener("change", () => command({ [box.dataset.word]: box.checked }));
}
$("mask").addEventListener("change", () => command({ mask: $("mask").value }));
$("record").addEventListener("click", () => command({ record: !known?.recording }));
for (const [id, word] of [["strength", "strength"], ["color", "color_strength"]]) {
  $(id).addEventListener("input", () => {
    sliding = performance.now() + 1500;
    $(`${id}-value`).textContent = ($(id).value / 100).toFixed(2);
    command({ [word]: $(id).value / 100 });
  });
}
fullScreen($("full"), $("stage"));
const press = (word) => () => document.querySelector(`[data-word=${word}]`).click();
shortcuts({
  a: () => command({ mask: null }), b: press("bypass"), d: press("blackout"), k: press("keep_colors"), v: press("split"), m: press("mirror"), x: press("crossfade"), o: press("hold"),
  " ": press("pause"), s: () => $("snapshot").click(), r: () => $("record").click(), f: () => $("full").click(),
  "+": () => command({ stronger: 1 }), "-": () => command({ weaker: 1 }),
  style: (place) => known?.styles[place] && command({ style: place }),
});
look();
setInterval(look, 700);
