// The page: objects are marked on the left and segmented on the right.

import { askJson, limitUploads, takeDrops, takeFiles, tell } from "./api.js";
import { Camera } from "./camera.js";
import { Queries } from "./queries.js";
import { Supports } from "./supports.js";

const about = await askJson("about", null, "GET").catch((error) => {
  tell(error);
  throw error;
});
document.getElementById("about").textContent =
  `${about.backbone}, ${about.size[0]} × ${about.size[1]}, ${about.precision} · ${about.backend} on ${about.device}`;
document.getElementById("about").title = about.reason;
document.getElementById("untrained").hidden = about.trained;

limitUploads(about.upload_bytes);

let queries = null;
const supports = new Supports(about.colours, () => queries?.changed());
queries = new Queries(supports, about);
const addQueries = (files) => queries.add(files);

new Camera(queries, async (file) => {
  const last = supports.classes.at(-1) ?? supports.addClass();
  await supports.addFiles(last, [file]);
  document.getElementById("editor").scrollIntoView({ behavior: "smooth", block: "center" });
});
takeFiles(document.getElementById("queries"), addQueries);
takeFiles(document.getElementById("take"), addQueries);
takeDrops(document.getElementById("find"), addQueries);
// A file dropped elsewhere must not replace the page.
for (const kind of ["dragover", "drop"]) addEventListener(kind, (event) => event.preventDefault());
addEventListener("beforeunload", (event) => {
  if (supports.classes.some((one) => one.shots.some((shot) => shot.file && !shot.empty))) event.preventDefault();
});

if (about.classes.length) supports.addEncoded(about.classes);
else supports.addClass();
document.body.dataset.ready = "yes";
