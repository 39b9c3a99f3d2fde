// A camera's frames, segmented one at a time: after each answer, the newest frame is sent.

import { Refused, safely, tell, toBlob } from "./api.js";
import { showFound, showTimes } from "./overlay.js";

export class Camera {
  /** @param {(file) => void} onShow called with a frame in which an object is to be marked. */
  constructor(queries, onShow) {
    this.queries = queries;
    const at = (id) => document.getElementById(id);
    this.video = at("video");
    this.figure = at("live");
    this.canvas = at("live-picture");
    this.found = at("live-found");
    this.times = at("live-times");
    this.frame = document.createElement("canvas");
    at("camera").onclick = safely(() => this.start());
    at("live-stop").onclick = () => this.stop();
    at("live-keep").onclick = safely(async () => queries.add([await this.file()]));
    at("live-show").onclick = safely(async () => onShow(await this.file()));
  }

  async start() {
    if (this.stream || this.starting) return;
    if (!navigator.mediaDevices) {
      throw new Refused(0, {
        summary: "this browser gives no camera to pages that come over plain HTTP from another machine",
        fix: "open the page on this machine, through an SSH tunnel or HTTPS; or take a photograph",
      });
    }
    this.starting = true; // while the browser asks for permission
    try {
      this.stream = await navigator.mediaDevices.getUserMedia({
        video: { facingMode: "environment", width: { ideal: 640 }, height: { ideal: 480 } },
      });
    } catch (error) {
      throw new Refused(0, { summary: "the camera cannot be used", found: error.message, fix: "allow it, and see that no other program uses it" });
    } finally {
      this.starting = false;
    }
    this.video.srcObject = this.stream;
    await this.video.play();
    this.figure.hidden = false;
    this.count = 0;
    this.#loop();
  }

  stop() {
    for (const track of this.stream?.getTracks() ?? []) track.stop();
    this.stream = null;
    this.figure.hidden = true;
  }

  /** The current frame, as a file. */
  async file() {
    const name = `frame-${new Date().toISOString().slice(11, 19).replaceAll(":", "")}.png`;
    return new File([await toBlob(this.frame)], name, { type: "image/png" });
  }

  async #loop() {
    let last = performance.now();
    while (this.stream) {
      await new Promise((done) => {
        // Browsers give no frames to a page in the background, which then sends no requests.
        requestAnimationFrame(done);
      });
      if (!this.stream || !this.video.videoWidth) continue;
      const next = document.createElement("canvas");
      next.width = this.video.videoWidth;
      next.height = this.video.videoHeight;
      next.getContext("2d").drawImage(this.video, 0, 0);
      let answer = null;
      if (this.queries.supports.ready) {
        try {
          answer = await this.queries.ask(await toBlob(next, "image/jpeg"));
        } catch (error) {
          tell(error);
          this.stop();
          return;
        }
      }
      if (!this.stream) return;
      this.frame = next;
      this.canvas.width = next.width;
      this.canvas.height = next.height;
      await this.queries.paint(this.canvas, next, answer);
      this.figure.dataset.frames = ++this.count;
      const now = performance.now();
      if (answer) {
        showFound(this.found, answer, (name) => this.queries.supports.colour(name));
        showTimes(this.times, answer, now - last);
        this.figure.dataset.segmented = Number(this.figure.dataset.segmented ?? 0) + 1;
      } else {
        this.found.textContent = "Mark an object first: in a photograph, or in a frame.";
      }
      last = now;
    }
  }
}
