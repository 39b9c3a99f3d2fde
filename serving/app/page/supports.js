// The classes and their shots: the list on the page, and the support set on the server.

import { ask, askJson, download, safely, takeDrops, takeFiles, tell } from "./api.js";
import { Editor, stem } from "./editor.js";
import { Shot } from "./shot.js";

export class Supports {
  /** @param {() => void} onChange called when results are out of date. */
  constructor(colours, onChange) {
    this.colours = colours;
    this.onChange = onChange;
    this.classes = [];
    this.current = null; // the set that the server has: {id, version}
    this.version = 0;
    this.list = document.getElementById("classes");
    this.editor = new Editor((shot) => this.#changed(shot));
    document.getElementById("add-class").onclick = () => this.addClass();
    document.getElementById("shot-remove").onclick = () => this.remove(this.editor.shot);
    takeFiles(document.getElementById("open-set"), safely(([file]) => this.open(file)));
    document.getElementById("save-set").onclick = safely(() => this.save());
  }

  colour(name) {
    const index = this.classes.findIndex((one) => one.name === name);
    return this.colours[Math.max(0, index) % this.colours.length];
  }

  /** Whether there is anything to segment. */
  get ready() {
    return this.classes.some((one) => one.shots.some((shot) => !shot.empty));
  }

  addClass(name) {
    let number = this.classes.length + 1;
    while (!name && this.classes.some((one) => one.name === `object ${number}`)) number++;
    const added = { name: name ?? `object ${number}`, shots: [] };
    this.classes.push(added);
    this.show();
    return added;
  }

  /** Add photographs to a class; two files of the same name are a photograph and its mask. */
  async addFiles(one, files) {
    const [photos, masks] = pair(files);
    for (const file of photos) {
      await safely(async () => {
        const shot = new Shot(file);
        await shot.start();
        one.shots.push(shot);
        this.#select(shot);
        const mask = masks.get(stem(file));
        if (mask) await this.editor.readMask(shot, mask);
      }, file.name)();
    }
    this.show();
  }

  /** Add classes that the server already has, by their shots' ids: from a file or its start. */
  addEncoded(classes, source = null) {
    for (const { name, shots } of classes) {
      const there = this.classes.find((one) => one.name === name);
      const one = there ?? this.addClass(name);
      // Where to find them again, also if the class is renamed here.
      one.shots.push(...shots.map((id, index) => Object.assign(Shot.encoded(id), { source, named: name, index })));
    }
    this.classes = this.classes.filter((one, i) => one.shots.length || i === this.classes.length - 1);
    this.#changed();
  }

  async open(file) {
    this.addEncoded((await askJson("supports", file)).classes, file);
  }

  async save() {
    const { id } = await this.ensure();
    download(await (await ask(`sets/${id}/supports.npz`, null, "GET")).blob(), "supports.npz");
  }

  remove(shot) {
    for (const one of this.classes) one.shots = one.shots.filter((other) => other !== shot);
    shot.forget();
    if (shot === this.editor.shot) this.#select(null);
    this.#changed();
  }

  /** Ensure that the server has the set of all marked shots: {id, version}; null if it is empty. */
  async ensure() {
    if (this.current?.version === this.version) return this.current;
    this.making ??= this.#make()
      .catch(async (error) => {
        if (error.status !== 404) throw error;
        await this.renew();
        return this.#make();
      })
      .finally(() => { this.making = null; });
    return this.making;
  }

  /** The server dropped its data (idle for long, or restarted): send everything again. */
  async renew() {
    this.current = null;
    this.version++;
    const files = new Map();
    for (const shot of this.classes.flatMap((one) => one.shots)) {
      if (shot.file) shot.sent = null;
      else files.set(shot.source, [...(files.get(shot.source) ?? []), shot]);
    }
    for (const [source, shots] of files) {
      const { classes } = source ? await askJson("supports", source) : await askJson("about", null, "GET");
      for (const shot of shots) {
        shot.sent = classes.find((one) => one.name === shot.named)?.shots[shot.index];
      }
    }
  }

  async #make() {
    for (;;) {
      const version = this.version;
      const classes = [];
      for (const one of this.classes) {
        const ids = [];
        for (const shot of one.shots) ids.push(await shot.encode());
        if (ids.some(Boolean)) classes.push({ name: one.name, shots: ids.filter(Boolean) });
      }
      if (version !== this.version) continue;
      if (!classes.length) return null;
      const { set } = await askJson("sets", { classes });
      if (version !== this.version) {
        ask(`forget/${set}`).catch(() => {});
        continue;
      }
      if (this.current) ask(`forget/${this.current.id}`).catch(() => {});
      this.current = { id: set, version };
      this.editor.draw(); // notes may have changed
      return this.current;
    }
  }

  #changed() {
    this.version++;
    this.show();
    this.onChange();
  }

  #select(shot) {
    const one = this.classes.find((other) => other.shots.includes(shot));
    this.editor.open(shot, one && this.colour(one.name));
    this.show();
  }

  show() {
    document.getElementById("save-set").disabled = !this.ready;
    this.list.replaceChildren(...this.classes.map((one) => this.#card(one)));
  }

  #card(one) {
    const card = document.createElement("div");
    card.className = "class";
    const colour = this.colour(one.name);
    card.style.setProperty("--colour", colour);

    const head = document.createElement("div");
    head.className = "head";
    const swatch = document.createElement("span");
    swatch.className = "swatch";
    const name = document.createElement("input");
    Object.assign(name, { type: "text", value: one.name, maxLength: 60, spellcheck: false });
    name.setAttribute("aria-label", "Name of the class");
    name.onchange = () => this.#rename(one, name);
    const away = document.createElement("button");
    Object.assign(away, { type: "button", textContent: "✕", title: `Remove ${one.name}` });
    away.setAttribute("aria-label", away.title);
    away.onclick = () => this.#removeClass(one);
    head.append(swatch, name, away);

    const shots = document.createElement("div");
    shots.className = "shots";
    shots.append(...one.shots.map((shot, index) => this.#thumb(shot, index, colour)));
    const add = document.createElement("label");
    add.className = "button";
    add.append("+ photo");
    const input = document.createElement("input");
    Object.assign(input, { type: "file", multiple: true, className: "away" });
    input.accept = "image/*,.tif,.tiff,.bmp";
    takeFiles(input, (files) => this.addFiles(one, files));
    add.append(input);
    shots.append(add);
    takeDrops(card, (files) => this.addFiles(one, files));
    card.append(head, shots);
    return card;
  }

  #thumb(shot, index, colour) {
    const thumb = document.createElement("button");
    thumb.type = "button";
    thumb.className = "shot";
    thumb.setAttribute("aria-label", `Photograph ${index + 1}`);
    thumb.setAttribute("aria-current", String(shot === this.editor.shot));
    const note = document.createElement("small");
    if (shot.image) {
      const canvas = document.createElement("canvas");
      const scale = 150 / Math.min(shot.width, shot.height);
      canvas.width = shot.width * scale;
      canvas.height = shot.height * scale;
      canvas.getContext("2d").drawImage(shot.image, 0, 0, canvas.width, canvas.height);
      shot.drawMask(canvas, colour);
      thumb.append(canvas);
      note.textContent = shot.empty ? "not marked" : "";
      thumb.onclick = () => this.#select(shot);
    } else {
      note.textContent = "✕ encoded";
      thumb.title = "From a set, without its photograph. Press to remove";
      thumb.onclick = () => this.remove(shot);
    }
    if (note.textContent) thumb.append(note);
    return thumb;
  }

  #rename(one, input) {
    const name = input.value.trim();
    if (!name || this.classes.some((other) => other !== one && other.name === name)) {
      tell(new Error(name ? `there is a class "${name}" already` : "a class needs a name"));
      input.value = one.name;
      return;
    }
    one.name = name;
    this.#changed();
  }

  #removeClass(one) {
    for (const shot of one.shots) shot.forget();
    if (one.shots.includes(this.editor.shot)) this.editor.open(null);
    this.classes = this.classes.filter((other) => other !== one);
    if (!this.classes.length) this.addClass();
    this.#changed();
  }
}

/** Photographs, and masks by the stem of their photograph's file name. */
function pair(files) {
  const by = new Map();
  for (const file of files) by.set(stem(file), [...(by.get(stem(file)) ?? []), file]);
  const photos = [];
  const masks = new Map();
  for (const [name, group] of by) {
    const mask = group.length === 2 ? group.find((file) => /\.png$/i.test(file.name)) : null;
    if (mask) masks.set(name, mask);
    photos.push(...group.filter((file) => file !== mask));
  }
  return [photos, masks];
}
