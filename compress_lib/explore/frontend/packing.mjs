// What Python has packed, back as numbers. Part of explorer.mjs: see parts.json.

const ARRAYS = { uint8: Uint8Array, int8: Int8Array, uint16: Uint16Array, int16: Int16Array, uint32: Uint32Array, int32: Int32Array, float32: Float32Array, float64: Float64Array };

/** IEEE half precision as a number. */
function half(bits) {
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  return (bits >> 15 ? -1 : 1) * (exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -14 * (fraction / 1024));
}

/** The counterpart of compress_lib.explore.frontend.sorted_floats: numbers in ascending order. */
function ascending(bytes, count) {
  const keys = new Uint32Array(count);
  for (let i = 0, at = 0, key = 0; i < count; i += 1) {
    let place = 1;
    for (; bytes[at] > 127; at += 1, place *= 128) key += (bytes[at] - 128) * place;
    key += bytes[at] * place;
    at += 1;
    keys[i] = key < 2 ** 31 ? ~key : key - 2 ** 31;
  }
  return new Float32Array(keys.buffer);
}

const READERS = {
  float16: ({ buffer }) => Float32Array.from(new Uint16Array(buffer), half),
  "sorted float32": (bytes, [count]) => ascending(bytes, count),
};

/** The counterpart of compress_lib.explore.frontend.packing.pack: arrays become typed arrays with a `shape`. */
export function unpack(value) {
  if (Array.isArray(value)) return value.map(unpack);
  if (value === null || typeof value !== "object") return value;
  if (!("base64" in value && "dtype" in value)) return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, unpack(v)]));
  const bytes = Uint8Array.from(atob(value.base64), (c) => c.charCodeAt(0));
  const read = READERS[value.dtype] ?? (({ buffer }) => new ARRAYS[value.dtype](buffer));
  const array = read(bytes, value.shape);
  return Object.assign(array, { shape: value.shape });
}
