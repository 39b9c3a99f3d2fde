// Requests to the server, and its errors as messages.

export class Refused extends Error {
  /** @param {number} status HTTP status; 0 if the server did not answer. */
  constructor(status, said) {
    super(said.summary);
    this.status = status;
    this.said = said;
  }
}

const limits = { upload: Infinity };

/** Set the largest number of bytes to send. */
export const limitUploads = (bytes) => { limits.upload = bytes; };

/** Refuse a file that is too large: the server would close the connection without an answer. */
export function checkSize(file) {
  if (file.size <= limits.upload) return;
  throw new Refused(413, {
    summary: "the file is too large",
    expected: `${limits.upload / 1e6} MB at most`,
    found: `${(file.size / 1e6).toFixed(1)} MB`,
    fix: "scale the picture down, or start the page with a larger --max-upload-mb",
  });
}

/** Send a request; `body` is a Blob, or an object that is sent as JSON. Returns the Response. */
export async function ask(path, body, method = "POST") {
  const plain = body && !(body instanceof Blob);
  if (body instanceof Blob) checkSize(body);
  let answer;
  try {
    answer = await fetch(`api/${path}`, {
      method,
      body: method === "GET" ? undefined : plain ? JSON.stringify(body) : (body ?? new Blob()),
    });
  } catch {
    throw new Refused(0, {
      summary: "the server does not answer",
      fix: "see whether `hsnet-trt app` still runs, then try again",
    });
  }
  if (answer.ok) return answer;
  let said;
  try {
    said = (await answer.json()).error;
  } catch {
    said = { summary: `the server refused (${answer.status})` };
  }
  throw new Refused(answer.status, said);
}

export const askJson = async (path, body, method) => (await ask(path, body, method)).json();

/** Show an error, with the name of its file `of` if given, until it is dismissed or times out. */
export function tell(error, of) {
  const said = error instanceof Refused ? error.said : { summary: String(error?.message ?? error) };
  const box = document.createElement("div");
  box.className = "said";
  const title = document.createElement("strong");
  title.textContent = of ? `${of}: ${said.summary}` : said.summary;
  box.append(title);
  for (const part of ["expected", "found", "fix"]) {
    if (!said[part]) continue;
    const line = document.createElement("div");
    line.textContent = `${part}: ${said[part]}`;
    box.append(line);
  }
  const away = document.createElement("button");
  away.textContent = "✕";
  away.setAttribute("aria-label", "Put away");
  away.onclick = () => box.remove();
  box.append(away);
  const errors = document.querySelector("#errors");
  while (errors.childElementCount > 3) errors.firstChild.remove();
  errors.append(box);
  setTimeout(() => box.remove(), 20000);
}

/** Download a Blob as a file. */
export function download(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}

export const toBlob = (canvas, kind = "image/png", quality = 0.92) =>
  new Promise((done) => canvas.toBlob(done, kind, quality));

/** Run a handler and show its errors, with the name of the file `of` if given. */
export const safely = (handler, of) => async (...given) => {
  try {
    return await handler(...given);
  } catch (error) {
    tell(error, of);
  }
};

/** Accept files that are dropped on an element. */
export function takeDrops(element, onFiles) {
  element.addEventListener("dragover", (event) => {
    event.preventDefault();
    element.classList.add("over");
  });
  element.addEventListener("dragleave", () => element.classList.remove("over"));
  element.addEventListener("drop", (event) => {
    event.preventDefault();
    event.stopPropagation();
    element.classList.remove("over");
    onFiles([...event.dataTransfer.files]);
  });
}

/** Accept files that are chosen with an input, also the same ones again. */
export function takeFiles(input, onFiles) {
  input.addEventListener("change", () => {
    const files = [...input.files];
    input.value = "";
    if (files.length) onFiles(files);
  });
}
