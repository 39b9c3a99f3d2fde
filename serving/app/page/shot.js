// One support photograph with its mask: the painted pixels, and their ids on the server.

import { Refused, ask, askJson, toBlob } from "./api.js";

const MOST_STEPS = 30; // undo steps

export class Shot {
  /** A photograph; `start` sends it to the server. */
  constructor(file) {
    this.file = file;
    this.mask = document.createElement("canvas"); // opaque on the object
    this.picture = null; // the server's id of the photograph
    this.sent = null; // ... and that of the encoded shot, with this mask
    this.notes = [];
    this.marked = {}; // a new object for every state of the mask
    this.share = 0; // marked share of the photograph
    this.past = [];
    this.future = [];
  }

  /** A shot of an opened support set: encoded, without a picture. */
  static encoded(id) {
    const shot = new Shot(null);
    shot.sent = id;
    shot.share = NaN; // unknown
    return shot;
  }

  get empty() { return this.share === 0; }
  get width() { return this.mask.width; }
  get height() { return this.mask.height; }
  get pen() { return this.mask.getContext("2d", { willReadFrequently: true }); }

  /** Send the photograph; the mask is kept. */
  async start() {
    const { picture, width, height } = await askJson("pictures", this.file);
    this.picture = picture;
    if (this.width !== width || this.height !== height || !this.image) {
      this.mask.width = width;
      this.mask.height = height;
    }
    if (this.image) return;
    const image = new Image();
    image.src = URL.createObjectURL(await (await ask(`pictures/${picture}`, null, "GET")).blob());
    await image.decode();
    this.image = image;
  }

  /** Send a request about this photograph, which is sent again if the server dropped it. */
  async ask(what, body) {
    if (!this.picture) await this.start();
    try {
      return await ask(`pictures/${this.picture}/${what}`, body);
    } catch (error) {
      if (error.status !== 404) throw error;
      await this.start();
      return ask(`pictures/${this.picture}/${what}`, body);
    }
  }

  /** The id of the encoded shot in its current state; the server encodes it if needed. */
  async encode() {
    if (this.sent || this.empty) return this.sent;
    if (!this.file) {
      throw new Refused(410, {
        summary: "the server no longer has the classes that it was started with",
        fix: "start it with the same --supports, or remove them here",
      });
    }
    const marked = this.marked;
    const { shot, notes } = await (await this.ask("shots", await this.maskFile())).json();
    if (marked === this.marked) {
      this.sent = shot;
      this.notes = notes;
    } else {
      ask(`forget/${shot}`).catch(() => {});
    }
    return this.sent;
  }

  /** The mask, one byte per pixel, 0 or 1. */
  plane() {
    return readPlane(this.pen, 3);
  }

  /** Replace the mask. */
  setPlane(plane) {
    drawPlane(this.pen, plane, 0);
    this.changed();
  }

  /** Replace the mask with a picture from the server, white on black. */
  async setPicture(blob) {
    const bitmap = await createImageBitmap(blob, { colorSpaceConversion: "none" });
    const canvas = new OffscreenCanvas(this.width, this.height);
    const pen = canvas.getContext("2d");
    pen.drawImage(bitmap, 0, 0);
    this.remember();
    this.setPlane(readPlane(pen, 0));
  }

  /** The mask as a PNG, 0 and 255. */
  async maskFile() {
    const canvas = document.createElement("canvas");
    canvas.width = this.width;
    canvas.height = this.height;
    drawPlane(canvas.getContext("2d"), this.plane(), 0xff000000);
    return toBlob(canvas);
  }

  /** Call before a change: keeps the state for undo. */
  remember() {
    this.past.push(this.plane());
    if (this.past.length > MOST_STEPS) this.past.shift();
    this.future = [];
  }

  undo() { this.#step(this.past, this.future); }
  redo() { this.#step(this.future, this.past); }

  #step(from, to) {
    if (!from.length) return;
    to.push(this.plane());
    this.setPlane(from.pop());
  }

  /** Call after a change: the shot on the server is out of date. */
  changed() {
    if (this.sent) ask(`forget/${this.sent}`).catch(() => {});
    this.sent = null;
    this.notes = [];
    this.marked = {};
    const plane = this.plane();
    this.share = plane.reduce((sum, on) => sum + on, 0) / plane.length;
  }

  /** The mask in a colour, over the whole of a canvas. */
  drawMask(canvas, colour, strength = 0.55) {
    const layer = new OffscreenCanvas(canvas.width, canvas.height);
    const pen = layer.getContext("2d");
    pen.drawImage(this.mask, 0, 0, layer.width, layer.height);
    pen.globalCompositeOperation = "source-in";
    pen.fillStyle = colour;
    pen.fillRect(0, 0, layer.width, layer.height);
    const target = canvas.getContext("2d");
    target.globalAlpha = strength;
    target.drawImage(layer, 0, 0);
    target.globalAlpha = 1;
  }

  forget() {
    for (const id of [this.sent, this.picture]) if (id) ask(`forget/${id}`).catch(() => {});
    if (this.image) URL.revokeObjectURL(this.image.src);
  }
}

/** Where a channel of a canvas's pixels is bright, one byte per pixel, 0 or 1. */
function readPlane(pen, channel) {
  const { data } = pen.getImageData(0, 0, pen.canvas.width, pen.canvas.height);
  const plane = new Uint8Array(data.length / 4);
  for (let i = 0; i < plane.length; i++) plane[i] = data[4 * i + channel] >= 128 ? 1 : 0;
  return plane;
}

/** Fill a canvas: white where the plane is 1, elsewhere a given colour, ABGR. */
function drawPlane(pen, plane, elsewhere) {
  const pixels = new ImageData(pen.canvas.width, pen.canvas.height);
  const whole = new Uint32Array(pixels.data.buffer);
  for (let i = 0; i < plane.length; i++) whole[i] = plane[i] ? 0xffffffff : elsewhere;
  pen.putImageData(pixels, 0, 0);
}
