// Drawing a segmentation over its photograph.

/**
 * The labels of an answer at a size, one byte per pixel: 0 background, i + 1 for its class i.
 * @param {string[]} serverColours of the label picture, by class.
 */
export async function readLabels(answer, serverColours, width, height) {
  const bitmap = await createImageBitmap(answer.file, {
    colorSpaceConversion: "none",
    premultiplyAlpha: "none",
  });
  const pen = new OffscreenCanvas(width, height).getContext("2d");
  pen.imageSmoothingEnabled = false;
  pen.drawImage(bitmap, 0, 0, width, height);
  bitmap.close();
  const { data } = pen.getImageData(0, 0, width, height);
  const known = [[0, 0, 0], ...answer.classes.map((_, i) => channels(serverColours[i]))];
  const label = new Map();
  const labels = new Uint8Array(width * height);
  for (let i = 0; i < labels.length; i++) {
    const colour = (data[4 * i] << 16) | (data[4 * i + 1] << 8) | data[4 * i + 2];
    // Browsers with fingerprinting protection return slightly altered colours.
    if (!label.has(colour)) label.set(colour, nearest(data.subarray(4 * i, 4 * i + 3), known));
    labels[i] = label.get(colour);
  }
  return labels;
}

/**
 * Draw a photograph and labels over it.
 * @param {Uint8Array|null} labels of the canvas's size.
 * @param {(string|null)[]} colours by class; null for a hidden one.
 */
export function drawOverlay(canvas, picture, labels, colours, strength) {
  const { width, height } = canvas;
  const pen = canvas.getContext("2d");
  pen.drawImage(picture, 0, 0, width, height);
  if (!labels) return;
  const layer = new OffscreenCanvas(width, height);
  const on = layer.getContext("2d");
  const pixels = on.createImageData(width, height);
  const paint = new Uint32Array(pixels.data.buffer);
  const inside = [0, ...colours.map((c) => (c ? abgr(c, Math.round(255 * strength)) : 0))];
  const edge = [0, ...colours.map((c) => (c ? abgr(c, 255) : 0))];
  const step = Math.max(1, Math.round(Math.min(width, height) / 220)); // width of outlines
  for (let y = 0, i = 0; y < height; y++) {
    for (let x = 0; x < width; x++, i++) {
      const label = labels[i];
      if (!label) continue;
      const outline =
        (x >= step && labels[i - step] !== label) || (x + step < width && labels[i + step] !== label) ||
        (y >= step && labels[i - step * width] !== label) ||
        (y + step < height && labels[i + step * width] !== label);
      paint[i] = (outline ? edge : inside)[label];
    }
  }
  on.putImageData(pixels, 0, 0);
  pen.drawImage(layer, 0, 0);
}

/** The classes of an answer with their share of the picture. */
export function showFound(box, answer, colourOf) {
  box.replaceChildren(
    ...answer.classes.map(({ name, share, present }) => {
      const line = document.createElement("span");
      const swatch = document.createElement("i");
      swatch.className = "swatch";
      swatch.style.setProperty("--colour", colourOf(name));
      const none = present ? "not found" : "not there";
      line.append(swatch, `${name} ${share ? (100 * share).toFixed(1) + " %" : none}`);
      return line;
    }),
  );
}

/** Milliseconds by step, as text and as a bar. */
export function showTimes(line, answer, trip) {
  const steps = Object.entries(answer.timing);
  const sum = steps.reduce((total, [, ms]) => total + ms, 0);
  const each = steps.map(([step, ms]) => `${step} ${ms.toFixed(0)}`).join(", ");
  line.textContent = `${sum.toFixed(0)} ms: ${each}`;
  line.title = `milliseconds; ${trip.toFixed(0)} with the way there and back`;
  const bar = document.createElement("span");
  bar.className = "bar";
  steps.forEach(([step, ms], index) => {
    const part = document.createElement("i");
    part.style.setProperty("--part", String(ms));
    part.style.setProperty("--tone", `${100 - 22 * index}%`);
    part.title = step;
    bar.append(part);
  });
  line.append(bar);
}

const channels = (css) => [1, 3, 5].map((at) => parseInt(css.slice(at, at + 2), 16));

function nearest(colour, known) {
  const away = known.map((one) => one.reduce((sum, value, i) => sum + (value - colour[i]) ** 2, 0));
  return away.indexOf(Math.min(...away));
}

function abgr(css, alpha) {
  const [red, green, blue] = channels(css);
  return ((alpha << 24) | (blue << 16) | (green << 8) | red) >>> 0;
}
