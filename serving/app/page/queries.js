// The query photographs and their results.

import { ask, askJson, checkSize, download, safely, tell, toBlob } from "./api.js";
import { stem } from "./editor.js";
import { drawOverlay, readLabels, showFound, showTimes } from "./overlay.js";
import { zip } from "./zip.js";

const MOST = 200; // photographs on the page; use a sweep for more
const SHOWN = 640; // pixels, the longer side of a card's picture

export class Queries {
  constructor(supports, about) {
    this.supports = supports;
    this.about = about;
    this.all = [];
    this.hidden = new Set(); // names of hidden classes
    const at = (id) => document.getElementById(id);
    this.box = at("results");
    this.state = at("state");
    this.button = at("segment");
    this.auto = at("auto");
    this.strength = at("strength");
    this.button.onclick = () => this.run();
    this.auto.onchange = () => this.changed();
    this.strength.oninput = () => this.draw();
    at("save-all").onclick = safely(() => this.saveAll());
    at("drop-all").onclick = () => this.clear();
    this.large = at("large");
    this.large.onclick = (event) => { if (event.target === this.large) this.large.close(); };
  }

  async add(files) {
    for (const file of files) {
      if (this.all.length >= MOST) {
        tell(new Error(`this page shows ${MOST} photographs; for more use: hsnet-trt sweep`));
        break;
      }
      await safely(() => this.#addOne(file), file.name)();
    }
    this.changed();
  }

  /** Update the results: supports changed, or photographs were added. */
  changed() {
    this.#legend();
    document.getElementById("all").hidden = !this.all.length;
    for (const query of this.all) query.card.classList.toggle("stale", this.#isStale(query));
    const stale = this.all.some((query) => this.#isStale(query));
    this.button.disabled = !stale || !this.supports.ready;
    if (!this.all.length) this.#say("");
    else if (!this.supports.ready) this.#say("Mark an object on the left first.");
    else if (stale && !this.auto.checked) this.#say("Some answers are out of date.");
    if (!this.button.disabled && this.auto.checked) {
      clearTimeout(this.soon);
      this.soon = setTimeout(() => this.run(), 250);
    }
  }

  /** Segment the photographs whose results are out of date, one at a time. */
  async run() {
    if (this.running) return;
    this.running = true;
    const began = performance.now();
    let count = 0;
    try {
      for (;;) {
        const query = this.all.find((one) => this.#isStale(one));
        if (!query || !this.supports.ready) break;
        const left = this.all.filter((one) => this.#isStale(one)).length;
        this.#say(`Segmenting: ${left} to go…`);
        await this.supports.ensure(); // first, so that its errors are not the query's
        await this.#segment(query);
        count++;
      }
      const took = (performance.now() - began) / 1000;
      if (count) this.#say(`${count} segmented in ${took.toFixed(1)} s.`);
    } catch (error) {
      this.#say("");
      tell(error);
    } finally {
      this.running = false;
      this.button.disabled = !this.all.some((query) => this.#isStale(query)) || !this.supports.ready;
    }
  }

  /** Segment one picture; supports that the server dropped are sent again. */
  async ask(blob) {
    const attempt = async () => {
      const set = await this.supports.ensure();
      if (!set) return null;
      const answer = await askJson(`sets/${set.id}/segment`, blob);
      const bytes = Uint8Array.from(atob(answer.labels), (c) => c.charCodeAt(0));
      return { ...answer, file: new Blob([bytes], { type: "image/png" }), version: set.version };
    };
    try {
      return await attempt();
    } catch (error) {
      if (error.status !== 404) throw error;
      await this.supports.renew();
      return attempt();
    }
  }

  /** Draw the result, if there is one, over its photograph, which has the canvas's size. */
  async paint(canvas, picture, answer, labels) {
    labels ??= answer && (await readLabels(answer, this.about.colours, canvas.width, canvas.height));
    drawOverlay(canvas, picture, labels, answer ? this.colours(answer) : [], this.blend);
    return labels;
  }

  colours(answer) {
    return answer.classes.map(({ name }) => (this.hidden.has(name) ? null : this.supports.colour(name)));
  }

  draw() {
    for (const query of this.all) safely(() => this.#drawOne(query))();
  }

  get blend() {
    return Number(this.strength.value) / 100;
  }

  async #addOne(file) {
    checkSize(file);
    const picture = await decode(file, SHOWN);
    const card = document.createElement("figure");
    card.className = "card result";
    const canvas = document.createElement("canvas");
    canvas.width = picture.width;
    canvas.height = picture.height;
    const caption = document.createElement("figcaption");
    const name = document.createElement("div");
    name.className = "name";
    name.textContent = name.title = file.name;
    const [found, times, failed, row] = ["div", "p", "p", "div"].map((kind) => document.createElement(kind));
    [found.className, times.className, failed.className, row.className] = ["found", "times", "failed", "row"];
    failed.hidden = true;
    const query = { file, picture, card, canvas, found, times, failed, answer: null, labels: null, version: -1 };
    const actions = [
      ["Mask", safely(() => download(query.answer.file, `${stem(file)}_labels.png`))],
      ["Overlay", safely(async () => download(await this.#overlay(query), `${stem(file)}_overlay.jpg`))],
      ["Remove", () => this.#remove(query)],
    ];
    query.buttons = actions.map(([text, act]) => {
      const button = document.createElement("button");
      Object.assign(button, { type: "button", textContent: text, onclick: act });
      return button;
    });
    row.append(...query.buttons);
    caption.append(name, found, failed, times, row);
    card.append(canvas, caption);
    canvas.onclick = safely(() => this.#enlarge(query));
    this.all.push(query);
    this.box.append(card);
    await this.#drawOne(query);
  }

  async #segment(query) {
    query.failed.hidden = true;
    const began = performance.now();
    try {
      query.answer = await this.ask(query.file);
      query.trip = performance.now() - began;
      query.version = query.answer?.version ?? this.supports.version;
    } catch (error) {
      if (!error.said || error.status === 0 || error.status >= 500) throw error;
      query.answer = null;
      query.version = this.supports.version;
      query.failed.hidden = false;
      const { summary, expected, found, fix } = error.said;
      query.failed.textContent = [summary, expected && `expected: ${expected}`, found && `found: ${found}`, fix]
        .filter(Boolean).join("\n");
    }
    query.labels = null;
    if (this.all.includes(query)) await this.#drawOne(query);
  }

  #isStale(query) {
    return query.version !== this.supports.version;
  }

  async #drawOne(query) {
    const { answer, canvas, picture } = query;
    const labels = await this.paint(canvas, picture, answer, query.labels);
    if (answer !== query.answer) return; // a newer result came meanwhile and is drawn instead
    query.labels = labels;
    for (const button of query.buttons.slice(0, 2)) button.disabled = !answer;
    query.card.classList.toggle("stale", this.#isStale(query) && this.supports.ready);
    query.card.dataset.state = !answer ? "none" : this.#isStale(query) ? "stale" : "done";
    query.found.hidden = query.times.hidden = !answer;
    if (!answer) return;
    showFound(query.found, answer, (name) => this.supports.colour(name));
    showTimes(query.times, answer, query.trip);
  }

  /** The overlay at the photograph's own size, as a JPEG. */
  async #overlay(query) {
    const canvas = document.createElement("canvas");
    await this.#full(query, canvas, Math.max(query.answer.width, query.answer.height));
    return toBlob(canvas, "image/jpeg");
  }

  async #full(query, canvas, most) {
    const picture = await decode(query.file, most);
    canvas.width = picture.width;
    canvas.height = picture.height;
    await this.paint(canvas, picture, query.answer);
    picture.close();
  }

  async #enlarge(query) {
    await this.#full(query, this.large.querySelector("canvas"), 2000);
    this.large.showModal();
  }

  async saveAll() {
    const files = [];
    const used = new Set();
    for (const query of this.all.filter((one) => one.answer)) {
      let name = stem(query.file);
      for (let n = 2; used.has(name); n++) name = `${stem(query.file)}-${n}`;
      used.add(name);
      files.push([`${name}.png`, query.answer.file], [`${name}_overlay.jpg`, await this.#overlay(query)]);
    }
    if (!files.length) return;
    const { classes } = this.all.find((one) => one.answer).answer;
    const labels = classes.map(({ name }, i) => `${i + 1} ${name}`).join("\n");
    files.push(["labels.txt", new Blob([`0 background\n${labels}\n`])]);
    download(await zip(files), "segmented.zip");
  }

  clear() {
    for (const query of [...this.all]) this.#remove(query);
  }

  #remove(query) {
    this.all = this.all.filter((one) => one !== query);
    query.card.remove();
    query.picture.close?.();
    this.changed();
  }

  #say(text) {
    this.state.textContent = text;
  }

  #legend() {
    const lines = this.supports.classes.filter((one) => one.shots.some((shot) => !shot.empty)).map(({ name }) => {
      const line = document.createElement("li");
      const label = document.createElement("label");
      const box = document.createElement("input");
      Object.assign(box, { type: "checkbox", checked: !this.hidden.has(name) });
      box.onchange = () => {
        if (box.checked) this.hidden.delete(name);
        else this.hidden.add(name);
        this.draw();
      };
      const swatch = document.createElement("span");
      swatch.className = "swatch";
      swatch.style.setProperty("--colour", this.supports.colour(name));
      label.append(box, swatch, name);
      line.append(label);
      return line;
    });
    document.getElementById("legend").replaceChildren(...lines);
  }
}

/** A photograph, scaled to `most` pixels; decoded by the server if the browser cannot. */
async function decode(file, most) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(file);
  } catch {
    bitmap = await createImageBitmap(await (await ask("preview", file)).blob());
  }
  const scale = most / Math.max(bitmap.width, bitmap.height);
  if (scale >= 1) return bitmap;
  const small = await createImageBitmap(bitmap, {
    resizeWidth: Math.max(1, Math.round(bitmap.width * scale)),
    resizeHeight: Math.max(1, Math.round(bitmap.height * scale)),
    resizeQuality: "high",
  });
  bitmap.close();
  return small;
}
