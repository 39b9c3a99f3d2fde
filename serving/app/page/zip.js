// A zip archive without compression, since pictures are compressed already.

const TABLE = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let k = 0; k < 8; k++) n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1;
  return n;
});

function crc32(bytes) {
  let crc = ~0;
  for (const byte of bytes) crc = TABLE[(crc ^ byte) & 255] ^ (crc >>> 8);
  return ~crc >>> 0;
}

/** Little-endian fields: [value, bytes] each. */
function fields(...parts) {
  const out = [];
  for (const [value, size] of parts) for (let i = 0; i < size; i++) out.push((value >>> (8 * i)) & 255);
  return Uint8Array.from(out);
}

/** @param {[string, Blob][]} files names and contents. Returns the archive as a Blob. */
export async function zip(files) {
  const parts = [];
  const directory = [];
  let at = 0;
  for (const [name, blob] of files) {
    const content = new Uint8Array(await blob.arrayBuffer());
    const label = new TextEncoder().encode(name);
    // Version 2.0, UTF-8 names, stored, 1 January 1980, checksum, sizes, length of the name.
    const common = fields([20, 2], [0x800, 2], [0, 2], [0, 2], [0x21, 2], [crc32(content), 4],
      [content.length, 4], [content.length, 4], [label.length, 2], [0, 2]);
    directory.push(fields([0x02014b50, 4], [20, 2]), common,
      fields([0, 2], [0, 2], [0, 2], [0, 4], [at, 4]), label);
    const local = [fields([0x04034b50, 4]), common, label, content];
    parts.push(...local);
    at += local.reduce((sum, part) => sum + part.length, 0);
  }
  const size = directory.reduce((sum, part) => sum + part.length, 0);
  const end = fields([0x06054b50, 4], [0, 4], [files.length, 2], [files.length, 2], [size, 4], [at, 4], [0, 2]);
  return new Blob([...parts, ...directory, end], { type: "application/zip" });
}
