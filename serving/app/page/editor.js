// Painting a mask over a photograph: brush, eraser, and GrabCut from a box or scribbles.

import { download, safely, takeFiles, toBlob } from "./api.js";

const KEYS = { p: "paint", e: "erase", b: "box", s: "object", n: "background" };
const SCRIBBLES = { object: "#ff0000", background: "#00ff00" }; // the server's colours
const SHOWN = { "#ff0000": "#34d399", "#00ff00": "#f43f5e" }; // the colours on screen

export class Editor {
  /** @param {(shot) => void} onChange called after a stroke. */
  constructor(onChange) {
    this.onChange = onChange;
    const at = (id) => document.getElementById(id);
    this.box = at("editor");
    this.stage = at("stage");
    this.canvas = at("paint");
    this.photo = at("photo");
    this.ring = at("ring");
    this.brush = at("brush");
    this.state = at("editor-state");
    this.working = at("working");
    this.tool = "paint";
    this.shot = null;
    for (const button of this.box.querySelectorAll("[data-tool]")) {
      button.onclick = () => this.choose(button.dataset.tool);
    }
    this.brush.oninput = () => this.#showRing();
    at("undo").onclick = () => this.#edit(() => this.shot.undo());
    at("redo").onclick = () => this.#edit(() => this.shot.redo());
    at("clear").onclick = () => this.clear();
    at("mask-save").onclick = safely(async () => {
      download(await this.shot.maskFile(), `${stem(this.shot.file)}_mask.png`);
    });
    takeFiles(at("mask-file"), safely(([file]) => this.readMask(this.shot, file)));
    this.stage.addEventListener("pointerdown", (event) => this.#down(event));
    this.stage.addEventListener("pointermove", (event) => this.#move(event));
    this.stage.addEventListener("pointerup", (event) => this.#up(event));
    this.stage.addEventListener("pointercancel", (event) => this.#up(event));
    this.stage.addEventListener("pointerleave", () => { this.ring.hidden = true; });
    document.addEventListener("keydown", (event) => this.#key(event));
    new ResizeObserver(() => this.#fit()).observe(this.box);
    addEventListener("resize", () => this.#fit());
  }

  /** Show a shot; null for none. */
  open(shot, colour) {
    const another = shot !== this.shot;
    this.shot = shot;
    this.colour = colour;
    this.box.hidden = !shot?.image;
    if (this.box.hidden) return;
    if (another) {
      this.photo.src = shot.image.src;
      this.canvas.width = shot.width;
      this.canvas.height = shot.height;
      this.#newScribble();
    }
    this.#fit();
    this.draw();
  }

  choose(tool) {
    this.tool = tool;
    for (const button of this.box.querySelectorAll("[data-tool]")) {
      button.setAttribute("aria-pressed", String(button.dataset.tool === tool));
    }
    this.stage.classList.toggle("brush", tool !== "box");
    if (!(tool in SCRIBBLES)) this.#newScribble();
    this.draw();
  }

  clear() {
    this.#edit(() => {
      this.shot.remember();
      this.shot.setPlane(new Uint8Array(this.shot.width * this.shot.height));
      this.#newScribble();
    });
  }

  /** Replace a shot's mask with that of a picture file. */
  async readMask(shot, file) {
    await shot.setPicture(await (await shot.ask("mask", file)).blob());
    this.#after(shot);
  }

  draw() {
    if (!this.shot?.image) return;
    const pen = this.canvas.getContext("2d");
    pen.clearRect(0, 0, this.canvas.width, this.canvas.height);
    this.shot.drawMask(this.canvas, this.colour);
    if (this.scribbled) pen.drawImage(this.shown, 0, 0);
    if (this.frame) {
      const { x, y, width, height } = this.frame;
      pen.lineWidth = 2 * this.#scale();
      for (const [colour, dash] of [["#000", []], ["#fff", [6, 6]]]) {
        pen.strokeStyle = colour;
        pen.setLineDash(dash.map((n) => n * this.#scale()));
        pen.strokeRect(x, y, width, height);
      }
      pen.setLineDash([]);
    }
    const notes = this.shot.notes.length ? ` · ${this.shot.notes.join("; ")}` : "";
    this.state.textContent = this.shot.empty
      ? "Nothing is marked yet."
      : `${(100 * this.shot.share).toFixed(1)} % of the photograph is marked${notes}`;
  }

  #edit(change) {
    if (!this.shot) return;
    change();
    this.#after(this.shot);
  }

  #after(shot) {
    if (shot === this.shot) this.draw();
    this.onChange(shot);
  }

  /** Pixels of the photograph per pixel of the screen. */
  #scale() {
    return this.canvas.width / Math.max(1, this.stage.clientWidth);
  }

  #at(event) {
    const area = this.stage.getBoundingClientRect();
    return [
      ((event.clientX - area.left) * this.canvas.width) / area.width,
      ((event.clientY - area.top) * this.canvas.height) / area.height,
    ];
  }

  #down(event) {
    if (!this.shot || event.button > 0 || !event.isPrimary || !this.working.hidden) return;
    this.stage.setPointerCapture(event.pointerId);
    this.last = this.start = this.#at(event);
    if (this.tool === "paint" || this.tool === "erase") this.shot.remember();
    this.#stroke(this.last);
  }

  #move(event) {
    this.#showRing(event);
    if (!this.last) return;
    const steps = event.getCoalescedEvents?.() ?? [];
    for (const step of steps.length ? steps : [event]) this.#stroke(this.#at(step));
  }

  #up(event) {
    if (!this.last) return;
    this.#stroke(this.#at(event));
    this.last = null;
    const { shot, tool, frame } = this;
    if (tool === "paint" || tool === "erase") {
      shot.changed();
      this.#after(shot);
    } else if (tool === "box") {
      this.frame = null;
      this.draw();
      if (frame.width >= 4 && frame.height >= 4) this.#cut(shot, boxQuery(frame, shot));
    } else if (this.scribbled === "both" || tool === "object") {
      this.#cut(shot, "cut", this.scribble);
    } else {
      this.state.textContent = "Now scribble on the object itself.";
    }
  }

  #stroke(to) {
    const [from, width] = [this.last, Number(this.brush.value) * this.#scale()];
    this.last = to;
    if (this.tool === "box") {
      const [x, y] = [Math.min(to[0], this.start[0]), Math.min(to[1], this.start[1])];
      const size = [Math.abs(to[0] - this.start[0]), Math.abs(to[1] - this.start[1])];
      this.frame = { x, y, width: size[0], height: size[1] };
    } else if (this.tool in SCRIBBLES) {
      const colour = SCRIBBLES[this.tool];
      const thin = Math.max(2, width / 3);
      line(this.scribble.getContext("2d"), from, to, thin, colour);
      line(this.shown.getContext("2d"), from, to, thin, SHOWN[colour]);
      if (this.scribbled !== this.tool) this.scribbled = this.scribbled ? "both" : this.tool;
    } else {
      const pen = this.shot.pen;
      pen.globalCompositeOperation = this.tool === "erase" ? "destination-out" : "source-over";
      line(pen, from, to, width, "#fff");
      pen.globalCompositeOperation = "source-over";
    }
    this.pending ??= requestAnimationFrame(() => {
      this.pending = null;
      this.draw();
    });
  }

  /** Let the server cut out the object. */
  async #cut(shot, query, canvas) {
    this.working.hidden = false;
    await safely(async () => {
      const body = canvas ? await toBlob(canvas) : undefined;
      await shot.setPicture(await (await shot.ask(query, body)).blob());
      this.#after(shot);
    })();
    this.working.hidden = true;
  }

  #newScribble() {
    this.scribbled = null; // "object", "background" or "both"
    this.scribble = document.createElement("canvas");
    this.shown = document.createElement("canvas");
    for (const canvas of [this.scribble, this.shown]) {
      canvas.width = this.canvas.width;
      canvas.height = this.canvas.height;
    }
    const pen = this.scribble.getContext("2d");
    pen.fillRect(0, 0, this.canvas.width, this.canvas.height);
  }

  #showRing(event) {
    if (event) {
      const area = this.stage.getBoundingClientRect();
      this.ring.style.left = `${event.clientX - area.left}px`;
      this.ring.style.top = `${event.clientY - area.top}px`;
      this.ring.hidden = this.tool === "box" || event.pointerType === "touch";
    }
    const size = this.tool in SCRIBBLES ? this.brush.value / 3 : this.brush.value;
    this.ring.style.width = this.ring.style.height = `${size}px`;
  }

  /** Fit the canvas into its place, with the photograph's aspect ratio. */
  #fit() {
    if (!this.shot?.image || this.box.hidden) return;
    const most = [this.box.clientWidth, Math.max(220, 0.62 * innerHeight)];
    const scale = Math.min(most[0] / this.shot.width, most[1] / this.shot.height);
    this.stage.style.width = `${Math.floor(this.shot.width * scale)}px`;
    this.stage.style.height = `${Math.floor(this.shot.height * scale)}px`;
  }

  #key(event) {
    if (!this.shot || /^(input|textarea)$/i.test(event.target.tagName) && event.target.type !== "range") return;
    const key = event.key.toLowerCase();
    if ((event.ctrlKey || event.metaKey) && (key === "z" || key === "y")) {
      event.preventDefault();
      this.#edit(() => (key === "y" || event.shiftKey ? this.shot.redo() : this.shot.undo()));
    } else if (!event.ctrlKey && !event.metaKey && !event.altKey) {
      if (key in KEYS) this.choose(KEYS[key]);
      if (key === "[" || key === "]") this.brush.value = Number(this.brush.value) + (key === "]" ? 6 : -6);
      this.#showRing();
    }
  }
}

function line(pen, from, to, width, colour) {
  pen.strokeStyle = colour;
  pen.lineWidth = width;
  pen.lineCap = pen.lineJoin = "round";
  pen.beginPath();
  pen.moveTo(...from);
  pen.lineTo(to[0] + 0.01, to[1]); // so that a single point is drawn
  pen.stroke();
}

function boxQuery({ x, y, width, height }, shot) {
  const [left, top] = [Math.max(0, Math.round(x)), Math.max(0, Math.round(y))];
  const right = Math.min(shot.width, Math.round(x + width));
  const bottom = Math.min(shot.height, Math.round(y + height));
  return `cut?box=${left},${top},${right - left},${bottom - top}`;
}

export const stem = (file) => (file?.name ?? "mask").replace(/\.[^.]*$/, "");
