"use strict";
// No library, no request: everything the page shows is in the page.

const byId = (id) => document.getElementById(id);

// --- light and dark -------------------------------------------------------------------------------------------------
byId("theme")?.addEventListener("click", () => {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  if (window.explorer) window.explorer.paint();
});

// --- tables that sort -----------------------------------------------------------------------------------------------
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
    const down = head.getAttribute("aria-sort") === "ascending";
    for (const one of heads) one.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const value = (row) => row.cells[column].dataset.v ?? row.cells[column].textContent;
    const numbers = head.classList.contains("n");
    const rows = [...table.tBodies[0].rows].sort((a, b) => {
      const [x, y] = [value(a), value(b)];
      if (x === "" || y === "") return (x === "") - (y === ""); // what is absent stays below
      return (numbers ? x - y : x.localeCompare(y)) * (down ? -1 : 1);
    });
    table.tBodies[0].append(...rows);
  }));
}

// What is folded up is printed all the same.
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((one) => { one.open = true; }));

// --- the explorer ---------------------------------------------------------------------------------------------------
async function unpacked(text, Kind) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Kind(await new Response(stream).arrayBuffer());
}

function weights(steps, top, kind) {
  if (kind === "fine") return Float32Array.from(steps, (step) => step * top / 32767);
  return Float32Array.from(steps, (step) => Math.sign(step) * (step / 127) ** 2 * top);
}

const COLOURS = {
  demo_audio: [0, 114, 178], demo_text: [213, 94, 0], demo_label: [240, 178, 122], target_audio: [86, 180, 233],
  output: [122, 59, 0], task: [0, 158, 115],
};
const colourOf = (label) => COLOURS[label.split(" ")[0]] ?? [128, 134, 143];
const shown = (text) => text.replaceAll("\n", "⏎");
const onButton = (text) => shown(text).replaceAll(" ", "␣") || "∅";
const percent = (share) => `${(100 * share).toFixed(2)} %`;
const MEASURES = { weights: "attention", effects: "effect on the logit" };

class Explorer {
  constructor(data) {
    this.data = data;
    this.cache = new Map();
    this.token = 0;
    this.audio = null;
    for (const name of ["utterance", "variant", "measure", "layer", "head", "unsunk"]) this[name] = byId(`x-${name}`);
    this.groups = Map.groupBy ? Map.groupBy(data.items, (one) => one.utterance) : grouped(data.items);
    fill(this.utterance, [...this.groups.keys()].map((one) => [one, one]));
    this.utterance.addEventListener("change", () => this.variants());
    this.variant.addEventListener("change", () => this.choose());
    this.layer.addEventListener("change", () => { this.heads(); this.paint(); });
    for (const one of [this.measure, this.head, this.unsunk]) one.addEventListener("change", () => this.paint());
    addEventListener("resize", () => this.paint());
    for (const query of ["print", "(prefers-color-scheme: dark)"]) {
      matchMedia(query).addEventListener("change", () => this.paint());
    }
    this.ready = this.variants();
  }

  variants() {
    const items = this.groups.get(this.utterance.value);
    const name = (one) => `${one.condition}, ${one.shots} shots, ${one.control === "none" ? "as it is" : `control: ${one.control}`}`;
    fill(this.variant, items.map((one) => [one.item, name(one)]));
    return this.choose();
  }

  async choose() {
    const item = this.data.items.find((one) => one.item === this.variant.value);
    if (!this.cache.has(item.item)) {
      const measures = {};
      for (const [name, packed] of Object.entries(item.measures)) {
        measures[name] = {
          positions: await unpacked(packed.positions, item.steps === "fine" ? Int16Array : Int8Array),
          tops: await unpacked(packed.tops, Float32Array),
          shares: await unpacked(packed.shares, Float32Array),
        };
      }
      this.cache.set(item.item, measures);
    }
    this.item = item;
    this.measures = this.cache.get(item.item);
    keep(this.measure, Object.keys(this.measures).map((name) => [name, MEASURES[name] ?? name]));
    keep(this.layer, [["-1", "mean of all"], ...item.layers.map((name, place) => [String(place), String(name)])]);
    this.heads();
    this.token = Math.min(this.token, item.tokens.length - 1);
    this.build();
    this.paint();
  }

  heads() {
    const layer = Number(this.layer.value);
    const there = this.item.slots.filter(([one, head]) => one === layer && head >= 0 && layer >= 0).map(([, head]) => head);
    keep(this.head, [["-1", "mean of all"], ...there.map((place) => [String(place), String(this.item.heads[place])])]);
  }

  build() {
    const { item } = this;
    const tokens = byId("x-tokens");
    tokens.replaceChildren(...[...item.tokens.keys()].map((place) => {
      const one = element("button", { type: "button", textContent: onButton(item.tokens[place]) });
      one.setAttribute("aria-label", `output token ${place + 1}: ${item.tokens[place]}`);
      one.addEventListener("click", () => { this.token = place; this.paint(); });
      one.addEventListener("keydown", (event) => {
        const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
        if (!step) return;
        event.preventDefault();
        this.token = (place + step + item.tokens.length) % item.tokens.length;
        tokens.children[this.token].focus();
        this.paint();
      });
      return one;
    }));
    this.marks = new Array(item.keys.length);
    this.clips = [];
    byId("x-prompt").replaceChildren(...item.blocks.map((block, place) => this.block(block, place)));
    const rows = item.blocks.map((block, place) => {
      const row = element("tr");
      row.style.setProperty("--c", `rgb(${colourOf(block.label)})`);
      row.append(element("td", { textContent: block.label }), element("td", { textContent: block.stop - block.start, className: "n" }),
        element("td", { className: "n", id: `share-${place}` }), element("td"));
      row.lastChild.append(element("span", { className: "bar" }));
      return row;
    });
    byId("shares").tBodies[0].replaceChildren(...rows);
    const [kept, all] = item.heads_kept;
    const notes = [];
    if (kept < all) notes.push(`${kept} of ${all} heads can be chosen: those that attend to demonstrations most. Means are over all heads.`);
    if (item.steps === "coarse") notes.push("To save room, weights on single positions are rounded, to 1 % of the largest in their row; shares of spans are not.");
    byId("x-note").textContent = notes.join(" ");
    byId("x-reference").textContent = item.reference;
  }

  block(block, place) {
    const { item } = this;
    const role = block.label.split(" ")[0];
    const box = element("div", { className: `block ${["other", "sink", "system", "instruction", "task"].includes(role) ? "small" : ""}` });
    box.style.setProperty("--c", `rgb(${colourOf(block.label)})`);
    const head = element("b", { textContent: block.label });
    head.append(element("span", { id: `head-${place}` }));
    box.append(head);
    const text = element("p", { dir: "auto" });
    const frames = [];
    for (let key = block.start; key < block.stop; key++) {
      if (item.seconds[key] !== null) { frames.push(key); continue; }
      const mark = element("span", { className: "k", textContent: shown(item.keys[key]) });
      this.marks[key] = mark;
      text.append(mark);
    }
    if (frames.length && block.label in item.clips) this.clip(box, block.label, frames);
    if (text.childNodes.length) box.append(text);
    return box;
  }

  clip(box, label, frames) {
    const clip = this.data.clips[this.item.clips[label]];
    const canvas = element("canvas", { tabIndex: 0 });
    const audio = element("audio", { controls: true, preload: "auto", src: clip.src });
    audio.setAttribute("aria-label", `audio of ${label}`);
    canvas.setAttribute("role", "slider");
    canvas.setAttribute("aria-label", `${label}: moments of the recording; arrows move, Enter plays`);
    canvas.setAttribute("aria-valuemin", 0);
    canvas.setAttribute("aria-valuemax", frames.length - 1);
    const one = { clip, canvas, audio, frames, at: 0 };
    this.clips.push(one);
    const move = (at) => { one.at = Math.max(0, Math.min(frames.length - 1, at)); this.wave(one); };
    canvas.addEventListener("click", (event) => {
      move(Math.floor(event.offsetX / canvas.clientWidth * frames.length));
      this.hear(one);
    });
    canvas.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1, PageUp: 10, PageDown: -10 }[event.key];
      if (step) { event.preventDefault(); move(one.at + step); }
      if (event.key === "Enter" || event.key === " ") { event.preventDefault(); this.hear(one); }
    });
    box.append(canvas, audio);
  }

  hear(one) {
    const width = one.clip.seconds / one.frames.length;
    const start = Math.max(0, one.at * width - 0.15);
    this.audio?.pause();
    clearTimeout(this.stopping);
    this.audio = one.audio;
    one.audio.currentTime = start;
    one.audio.play();
    this.stopping = setTimeout(() => one.audio.pause(), 1000 * (width + 0.5));
  }

  paint() {
    if (!this.item) return;
    const { item, token } = this;
    const measure = this.measures[this.measure.value];
    const [layer, head] = [Number(this.layer.value), Number(this.head.value)];
    const slot = item.slots.findIndex(([one, other]) => one === layer && other === head);
    const [tokens, keys, blocks] = [item.tokens.length, item.keys.length, item.blocks.length];
    const place = slot * tokens + token;
    const row = weights(measure.positions.subarray(place * keys, (place + 1) * keys), measure.tops[place], item.steps);
    const shares = measure.shares.subarray((slot * tokens + token) * blocks, (slot * tokens + token + 1) * blocks);
    this.row = row;
    this.signed = this.measure.value === "effects";
    const skip = this.unsunk.checked && item.blocks[0].label === "sink" ? 1 : 0;
    let top = 0;
    for (let key = skip; key < keys; key++) top = Math.max(top, Math.abs(row[key]));
    this.top = top || 1;
    const most = Math.max(...shares.map(Math.abs)) || 1;
    item.blocks.forEach((block, place) => {
      const said = this.signed ? shares[place].toFixed(4) : percent(shares[place]);
      byId(`head-${place}`).textContent = `  ${said}`;
      const cell = byId(`share-${place}`);
      cell.textContent = said;
      cell.dataset.v = shares[place];
      cell.nextSibling.firstChild.style.width = `${100 * Math.abs(shares[place]) / most}%`;
      const colour = colourOf(block.label);
      for (let key = block.start; key < block.stop; key++) {
        const mark = this.marks[key];
        if (!mark) continue;
        mark.style.background = `rgba(${row[key] < 0 ? [118, 42, 131] : colour},${Math.min(1, Math.abs(row[key]) / this.top) * 0.85})`;
        mark.title = this.told(key);
      }
    });
    for (const one of this.clips) this.wave(one);
    [...byId("x-tokens").children].forEach((one, place) => one.setAttribute("aria-pressed", place === token));
  }

  told(key) {
    const value = this.row[key];
    return this.signed ? value.toFixed(5) : percent(value);
  }

  wave(one) {
    const { canvas, clip, frames } = one;
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    if (!width) return;
    const ratio = devicePixelRatio || 1;
    canvas.width = width * ratio;
    canvas.height = height * ratio;
    const paper = canvas.getContext("2d");
    paper.scale(ratio, ratio);
    const step = width / frames.length;
    const colour = colourOf(this.item.blocks.find((block) => block.start <= frames[0] && frames[0] < block.stop).label);
    frames.forEach((key, place) => {
      const value = this.row[key];
      paper.fillStyle = `rgba(${value < 0 ? [118, 42, 131] : colour},${Math.min(1, Math.abs(value) / this.top) * 0.9})`;
      paper.fillRect(place * step, 0, Math.ceil(step), height);
    });
    // The lowest stripe shows the heat alone; above it the recording lies over it.
    paper.fillStyle = getComputedStyle(document.documentElement).getPropertyValue("--ink");
    const wide = width / clip.low.length;
    const middle = (height - 14) / 2;
    paper.globalAlpha = 0.55;
    clip.low.forEach((low, place) => {
      const [top, bottom] = [middle * (1 - clip.high[place] / 105), middle * (1 - low / 105)];
      paper.fillRect(place * wide, top, Math.max(wide * 0.7, 0.6), Math.max(bottom - top, 0.6));
    });
    paper.globalAlpha = 1;
    paper.strokeStyle = paper.fillStyle;
    paper.strokeRect(one.at * step + 0.5, 0.5, Math.max(step - 1, 1), height - 1);
    const told = `${(one.at * clip.seconds / frames.length).toFixed(2)} s: ${this.told(frames[one.at])}`;
    canvas.setAttribute("aria-valuenow", one.at);
    canvas.setAttribute("aria-valuetext", told);
    canvas.title = told;
  }
}

function element(name, fields = {}) { return Object.assign(document.createElement(name), fields); }
function fill(select, pairs) {
  select.replaceChildren(...pairs.map(([value, textContent]) => element("option", { value, textContent })));
}
function keep(select, pairs) {
  const before = select.value;
  fill(select, pairs);
  if (pairs.some(([value]) => value === before)) select.value = before;
}
function grouped(items) {
  const groups = new Map();
  for (const one of items) groups.set(one.utterance, [...(groups.get(one.utterance) ?? []), one]);
  return groups;
}

const packed = byId("explorer-data");
if (packed) window.explorer = new Explorer(JSON.parse(packed.textContent));
