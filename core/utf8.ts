/** UTF-8 without an array for each text: making one costs the hot path more than a MAC over it (workerd, 2026-11). */

const encoder = new TextEncoder();
const scratch = new Uint8Array(16_384);

/** @returns the bytes of a text, good until the next call: for what reads or copies them at once */
export function passingBytes(text: string): Uint8Array<ArrayBuffer> {
  if (text.length * 3 > scratch.length) return encoder.encode(text);
  return scratch.subarray(0, encoder.encodeInto(text, scratch).written);
}
