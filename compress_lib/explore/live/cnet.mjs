// A reader of the container format (*.cnet), written from book/container-format.md alone: it shares no line with the
// library's own reader, so where the two agree, the page says what is needed. Chapter 07.
//
//   decode(bytes) -> { metadata, tensors: Map(full name -> tensor), parts: [part] }
//
//   tensor  {type, shape, values}. `values` is a typed array; of the types that JavaScript has no array for, it holds
//           the bits (float16, bfloat16, float8), and of complex64 real and imaginary parts in turn.
//   part    {from, to, kind, tensor}: what each byte of the file is for. `kind` is "header" (the file's own), "record"
//           (a tensor's type, form and shape), "gaps", "codebook", "values", or "tables" (of a Huffman code).
//
// A file that breaks the format is refused with a CnetError that gives the reason; no part of it is returned. Typed
// arrays have the byte order of the machine, which is the file's, little-endian, wherever browsers run.

export class CnetError extends Error {}

const refuse = (reason) => {
  throw new CnetError(reason);
};

const VERSION = 1;
const LONGEST_WORD = 16; // bits of a word in a Huffman code
const LARGEST_CHUNK = 4088; // symbols
const MOST_AXES = 32;
const VALUES_PER_BYTE = 2048; // that a record may claim, and
const VALUES_BESIDES = 256;
const FORMS = ["values", "codebook", "base"];

// By their numbers: the array of their bits, which is what records hold; the array of their values; and the types in
// which these may be stored besides their own.
const TYPES = [
  ["bool", Uint8Array, Uint8Array],
  ["uint8", Uint8Array, Uint8Array],
  ["int8", Uint8Array, Int8Array],
  ["int16", Uint16Array, Int16Array, "int8"],
  ["int32", Uint32Array, Int32Array, "int8", "int16"],
  ["int64", BigUint64Array, BigInt64Array, "int8", "int16", "int32"],
  ["float16", Uint16Array, Uint16Array],
  ["bfloat16", Uint16Array, Uint16Array],
  ["float32", Uint32Array, Float32Array, "float16", "bfloat16"],
  ["float64", BigUint64Array, Float64Array, "float32"],
  ["complex64", BigUint64Array, Float32Array],
  ["float8_e4m3fn", Uint8Array, Uint8Array],
  ["float8_e5m2", Uint8Array, Uint8Array],
  ["uint16", Uint16Array, Uint16Array, "uint8"],
  ["uint32", Uint32Array, Uint32Array, "uint8", "uint16"],
  ["uint64", BigUint64Array, BigUint64Array, "uint8", "uint16", "uint32"],
].map(([name, Bits, Values, ...narrower]) => ({ name, Bits, Values, narrower, whole: name === "bool" || name.includes("int") }));

// ---------------------------------------------------------------------------------------------------------- checksum

const CRC_OF_BYTE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte;
  for (let bit = 0; bit < 8; bit += 1) crc = crc & 1 ? (crc >>> 1) ^ 0xedb88320 : crc >>> 1;
  return crc;
});

/** The CRC-32 of zlib, over several pieces one after the other. */
export function crc32(...pieces) {
  let crc = 0xffffffff;
  for (const piece of pieces) for (const byte of piece) crc = (crc >>> 8) ^ CRC_OF_BYTE[(crc ^ byte) & 255];
  return (crc ^ 0xffffffff) >>> 0;
}

// ------------------------------------------------------------------------------------------------------ bytes, in turn

/** Bytes read from front to back; `from` is where they begin in the file. */
class Reader {
  constructor(bytes, from = 0) {
    this.bytes = bytes;
    this.from = from;
    this.at = 0;
  }

  /** Where the reader is, in the file. */
  get place() {
    return this.from + this.at;
  }

  take(count) {
    if (count > this.bytes.length - this.at) refuse(`truncated: ${count} bytes are missing at ${this.place}`);
    this.at += count;
    return this.bytes.subarray(this.at - count, this.at);
  }

  byte() {
    return this.take(1)[0];
  }

  /** Four bytes, the lowest first. */
  uint32() {
    const [a, b, c, d] = this.take(4);
    return a + 256 * (b + 256 * (c + 256 * d));
  }

  /** The format allows 56 bits; beyond 53 a JavaScript number is not exact, and no file that means it needs them. */
  varint() {
    let value = 0;
    for (let digit = 1; ; digit *= 128) {
      const byte = this.byte();
      value += (byte & 127) * digit;
      if (!Number.isSafeInteger(value) || digit > 2 ** 49) refuse(`a number is too large, before ${this.place}`);
      if (byte < 128) return value;
    }
  }

  text() {
    const bytes = this.take(this.varint());
    try {
      return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
    } catch {
      return refuse(`a text is not UTF-8, before ${this.place}`);
    }
  }

  /** The bits of `count` values of a type. */
  values({ Bits }, count) {
    return new Bits(this.take(count * Bits.BYTES_PER_ELEMENT).slice().buffer);
  }

  end(what) {
    if (this.at < this.bytes.length) refuse(`${what} is ${this.bytes.length - this.at} bytes too long`);
  }
}

/** The bits of some bytes, the highest of each byte first. */
class BitReader {
  constructor(bytes) {
    this.bytes = bytes;
    this.at = 0;
  }

  bit() {
    const byte = this.bytes[this.at >> 3]; // undefined behind the end, which reads as 0: `end` notices
    const bit = (byte >> (7 - (this.at & 7))) & 1;
    this.at += 1;
    return bit;
  }

  number(width) {
    let value = 0;
    for (let i = 0; i < width; i += 1) value = 2 * value + this.bit();
    return value;
  }

  /** All bits that were read are there, and what is left is zeros within the last byte. */
  end() {
    if (Math.ceil(this.at / 8) !== this.bytes.length) refuse("a row of bits has another length than its bytes");
    if (this.at & 7 && this.number(8 - (this.at & 7))) refuse("a row of bits does not end in zeros");
  }
}

/** `count` numbers of `width` bits each, packed; zeros fill the last byte. */
function packed(reader, count, width) {
  const bits = new BitReader(reader.take(Math.ceil((count * width) / 8)));
  const numbers = new Uint32Array(count);
  for (let i = 0; i < count; i += 1) numbers[i] = bits.number(width);
  bits.end();
  return numbers;
}

// ---------------------------------------------------------------------------------------------------------- Huffman

/** A list: its lowest value, a width, and each value less the lowest. */
function list(reader, count) {
  const [high, low] = reader.take(2);
  const width = reader.byte();
  if (width > 16) refuse(`a list has values of ${width} bits, at most 16 are allowed`);
  if (!count && (high || low || width)) refuse("a list of nothing has bits that are not 0");
  return packed(reader, count, width).map((value) => value + 256 * high + low);
}

/** From lengths of words to where the words of each length begin, in the order of the canonical code. */
function canonical(alphabet, lengths) {
  const count = new Uint32Array(LONGEST_WORD + 1);
  for (const length of lengths) {
    if (length < 1 || length > LONGEST_WORD) refuse(`a word of a Huffman code has ${length} bits`);
    count[length] += 1;
  }
  const symbols = Array.from(alphabet.keys()).sort((a, b) => lengths[a] - lengths[b] || alphabet[a] - alphabet[b]);
  const first = new Uint32Array(LONGEST_WORD + 2); // the first word of each length
  for (let length = 1; length <= LONGEST_WORD; length += 1) {
    first[length + 1] = 2 * (first[length] + count[length]);
    if (first[length] + count[length] > 2 ** length) refuse("the lengths of words belong to no prefix code");
  }
  const complete = first[LONGEST_WORD + 1] === 2 ** (LONGEST_WORD + 1);
  if (!complete && (symbols.length > 1 || lengths[0] !== 1)) refuse("the lengths of words leave words unused");
  return { count, first, symbols: symbols.map((place) => alphabet[place]) };
}

/** A Huffman stream: `count` symbols, and how many of its bytes come before the words. */
function huffman(bytes, count) {
  const reader = new Reader(bytes);
  const [h, f, version] = reader.take(3);
  if (h !== 72 || f !== 70) refuse("a Huffman stream does not begin with HF");
  if (version !== VERSION) refuse(`version ${version} of the Huffman stream is unknown`);
  const stored = reader.varint();
  if (stored !== count) refuse(`a Huffman stream has ${stored} symbols, ${count} are expected`);
  const numbers = new Uint32Array(count);
  if (!count) {
    reader.end("a Huffman stream");
    return { numbers, tables: reader.at };
  }
  const distinct = reader.varint() + 1;
  if (distinct > count) refuse(`a Huffman stream of ${count} symbols has ${distinct} different ones`);
  const chunk = 8 * reader.varint();
  if (chunk < 8 || chunk > LARGEST_CHUNK) refuse(`a Huffman stream has chunks of ${chunk} symbols`);
  const tail = reader.varint();
  if (tail > 0 !== count % chunk > 0) refuse(`a Huffman stream has ${tail} bits for its last ${count % chunk} symbols`);

  let symbol = -1;
  const alphabet = list(reader, distinct).map((gap) => (symbol += gap + 1));
  if (symbol > 65535) refuse(`a symbol of ${symbol} is too large`);
  const code = canonical(alphabet, list(reader, distinct));
  const chunks = list(reader, Math.floor(count / chunk));
  const tables = reader.at;
  const bits = new BitReader(reader.take(reader.bytes.length - reader.at));

  for (let i = 0, begun = 0; i < count; i += 1) {
    let word = 0;
    for (let length = 1; ; length += 1) {
      if (length > LONGEST_WORD) refuse("a word belongs to no symbol");
      word = 2 * word + bits.bit();
      const within = word - code.first[length];
      if (within >= 0 && within < code.count[length]) {
        let before = 0;
        for (let shorter = 1; shorter < length; shorter += 1) before += code.count[shorter];
        numbers[i] = code.symbols[before + within];
        break;
      }
    }
    if ((i + 1) % chunk === 0 || i + 1 === count) {
      const said = (i + 1) % chunk === 0 ? chunks[(i + 1) / chunk - 1] : tail;
      if (bits.at - begun !== said) refuse(`a chunk of a Huffman stream has ${bits.at - begun} bits, not ${said}`);
      begun = bits.at;
    }
  }
  bits.end();
  return { numbers, tables };
}

/** A stream of `count` small numbers. `tablesEnd` is told where the words of a Huffman stream begin. */
function stream(reader, count, tablesEnd) {
  const width = reader.byte();
  if (width > 16) refuse(`a stream has numbers of ${width} bits, at most 16 are allowed`);
  if (width) return packed(reader, count, width);
  const length = reader.varint();
  const begins = reader.place;
  const { numbers, tables } = huffman(reader.take(length), count);
  tablesEnd(begins + tables);
  return numbers;
}

// ---------------------------------------------------------------------------------------------------------- values

/** The bits of a float16 as those of a float32. Those of a NaN are kept, which a JavaScript number does not promise. */
function singleOfHalf(bits) {
  const sign = (bits >> 15) * 2 ** 31;
  const exponent = (bits >> 10) & 31;
  let fraction = bits & 1023;
  if (exponent === 31) return sign + 255 * 2 ** 23 + fraction * 2 ** 13; // infinities, NaN
  if (exponent) return sign + (exponent - 15 + 127) * 2 ** 23 + fraction * 2 ** 13;
  if (!fraction) return sign;
  const shift = Math.clz32(fraction) - 21; // a number so small has no leading 1 in float16, and one in float32
  fraction = (fraction << shift) & 1023;
  return sign + (1 - shift - 15 + 127) * 2 ** 23 + fraction * 2 ** 13;
}

/** The same bits as values of their type. */
const valuesOf = (bits, { Values }) => new Values(bits.buffer);

/** Bits of the type `stored` as those of `type`, in which the values are the same. */
function widened(bits, stored, type) {
  if (stored === type) return bits;
  if (stored.name === "bfloat16") return type.Bits.from(bits, (upper) => upper * 65536); // the upper half of a float32
  if (stored.name === "float16") return type.Bits.from(bits, singleOfHalf);
  const convert = type.Bits === BigUint64Array && type.whole ? BigInt : Number;
  return new type.Bits(type.Values.from(valuesOf(bits, stored), convert).buffer);
}

/** The bits of what lies so far above the lowest value. */
function fromBase(base, distances, type) {
  const [lowest] = valuesOf(base, type);
  const found = Array.from(distances, typeof lowest === "bigint" ? (d) => lowest + BigInt(d) : (d) => lowest + d);
  const values = type.Values.from(found);
  if (values.some((value, i) => value !== found[i])) refuse(`a distance leads out of the values of ${type.name}`);
  return new type.Bits(values.buffer);
}

/** Where entries lie: each number is how many places are left out before it. */
function positions(gaps, bits, size) {
  let place = -1;
  const places = gaps.map((gap) => {
    if (gap >= 2 ** bits) refuse(`a gap of ${gap} has more than ${bits} bits`);
    place += gap + 1;
    if (place >= size) refuse(`an entry lies behind the end of its tensor, at ${place} of ${size}`);
    return place;
  });
  if (size - place > 2 ** bits) refuse(`gaps of ${bits} bits do not reach the end of their tensor`);
  return places;
}

/** One record: a tensor. `mark(kind, from, to)` is told what its bytes are for. */
function record(bytes, from, mark) {
  const reader = new Reader(bytes, from);
  const kinds = reader.byte();
  const [type, stored] = [TYPES[kinds & 15], TYPES[kinds >> 4]];
  if (stored !== type && !type.narrower.includes(stored.name)) refuse(`values of ${type.name} are not stored as ${stored.name}`);
  const forms = reader.byte();
  const [form, gapBits] = [FORMS[forms & 3], forms >> 2];
  if (!form) refuse(`form ${forms & 3} of a record is unknown`);
  if (gapBits > 8) refuse(`gaps of ${gapBits} bits, at most 8 are allowed`);
  if (form === "base" && !stored.whole) refuse(`values of ${stored.name} have no base`);

  const axes = reader.varint();
  if (axes > MOST_AXES) refuse(`a tensor has ${axes} axes, at most ${MOST_AXES} are allowed`);
  const shape = Array.from({ length: axes }, () => reader.varint());
  const size = shape.reduce((product, axis) => product * axis, 1);
  if (shape.reduce((product, axis) => product * Math.max(axis, 1), 1) >= 2 ** 56) refuse("a shape is beyond 2^56");
  const allowed = VALUES_PER_BYTE * bytes.length + VALUES_BESIDES;
  if (size > allowed) refuse(`a tensor of ${size} values claims more than the ${allowed} of its record`);
  const entries = gapBits ? reader.varint() : size;
  if (entries > size) refuse(`a tensor of ${size} values has ${entries} entries`);
  let begun = from;
  const done = (kind, to = reader.place) => {
    if (to > begun) mark(kind, begun, to);
    begun = to;
  };
  const tablesEnd = (place) => done("tables", place);
  done("record");

  const places = gapBits ? positions(stream(reader, entries, tablesEnd), gapBits, size) : null;
  done("gaps");
  let bits;
  if (form === "codebook") {
    const codebook = reader.values(stored, reader.varint());
    done("codebook");
    const lookUp = (index) => codebook[index] ?? refuse(`an index of ${index} is outside of a codebook of ${codebook.length}`);
    bits = stored.Bits.from(stream(reader, entries, tablesEnd), lookUp);
  } else if (form === "base") {
    const base = reader.values(stored, 1);
    done("codebook");
    bits = fromBase(base, stream(reader, entries, tablesEnd), stored);
  } else {
    bits = reader.values(stored, entries);
  }
  done("values");
  reader.end("a record");
  if (stored.name === "bool" && bits.some((bit) => bit > 1)) refuse("a bool is neither 0 nor 1");

  bits = widened(bits, stored, type);
  if (!places) return { type: type.name, shape, values: valuesOf(bits, type) };
  const all = new type.Bits(size);
  places.forEach((place, i) => (all[place] = bits[i]));
  return { type: type.name, shape, values: valuesOf(all, type) };
}

// ---------------------------------------------------------------------------------------------------------- the file

/** Whether some bytes begin like a container; anything else is not worth a word about checksums. */
const begins = (bytes) => [67, 78, 69, 84].every((letter, i) => bytes[i] === letter); // CNET

/** The header: the metadata, and what each layer holds, in the order of the sections. */
function readHeader(file) {
  if (!begins(file.take(Math.min(4, file.bytes.length)))) refuse("this is no container: it does not begin with CNET");
  const version = file.byte();
  if (version !== VERSION) refuse(`version ${version} is unknown, this reader knows ${VERSION}`);
  const length = file.uint32();
  const before = file.bytes.subarray(0, file.at);
  const checksum = file.uint32();
  const body = file.take(length);
  if (crc32(before, body) !== checksum) refuse("the header does not have its checksum");

  const reader = new Reader(body, file.place - length);
  let metadata;
  const json = reader.text();
  try {
    metadata = JSON.parse(json);
  } catch {
    refuse("the metadata are no JSON");
  }
  if (metadata === null || typeof metadata !== "object" || Array.isArray(metadata)) refuse("the metadata are no object of JSON");
  const layers = [];
  for (let i = reader.varint(); i > 0; i -= 1) {
    const layer = { name: reader.text(), checksum: reader.uint32(), tensors: [] };
    if (layers.some(({ name }) => name === layer.name)) refuse(`there are two layers ${JSON.stringify(layer.name)}`);
    for (let k = reader.varint(); k > 0; k -= 1) {
      const own = reader.text();
      const tensor = { name: layer.name ? `${layer.name}.${own}` : own, bytes: reader.varint() };
      if (!tensor.bytes) tensor.same = reader.text();
      layer.tensors.push(tensor);
    }
    layers.push(layer);
  }
  reader.end("the header");
  return { metadata, layers };
}

/** Read a whole file. */
export function decode(bytes) {
  const file = new Reader(bytes);
  const { metadata, layers } = readHeader(file);
  const parts = [{ kind: "header", from: 0, to: file.at, tensor: null }];
  const tensors = new Map();
  const stored = new Set(); // the names of those that have a record of their own
  for (const layer of layers) {
    const section = file.take(layer.tensors.reduce((sum, tensor) => sum + tensor.bytes, 0));
    if (crc32(section) !== layer.checksum) refuse(`layer ${JSON.stringify(layer.name)} does not have its checksum`);
    let from = file.at - section.length;
    for (const { name, bytes: length, same } of layer.tensors) {
      if (tensors.has(name)) refuse(`there are two tensors ${JSON.stringify(name)}`);
      if (length) {
        const mark = (kind, start, end) => parts.push({ kind, from: start, to: end, tensor: name });
        tensors.set(name, record(bytes.subarray(from, from + length), from, mark));
        stored.add(name);
      } else {
        if (!stored.has(same)) refuse(`${JSON.stringify(name)} is to be ${JSON.stringify(same)}, which is not stored before it`);
        tensors.set(name, tensors.get(same));
      }
      from += length;
    }
  }
  file.end("the file");
  return { metadata, tensors, parts };
}
