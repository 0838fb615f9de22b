// The whole world that core/ may touch besides ES2024. Nothing else is declared here, so a `fetch`, a `URL` or a
// `setTimeout` in core/ does not compile. Time and randomness are values given to it.

declare class TextEncoder {
  encode(input?: string): Uint8Array<ArrayBuffer>;
  encodeInto(source: string, destination: Uint8Array): { readonly read: number; readonly written: number };
}

declare class TextDecoder {
  constructor(label?: "utf-8", options?: { fatal?: boolean; ignoreBOM?: boolean });
  decode(input?: ArrayBuffer | ArrayBufferView): string;
}

/** An imported key. Opaque: its bytes can't be read back. */
interface CryptoKey {
  readonly type: "secret" | "private" | "public";
  readonly extractable: boolean;
  readonly algorithm: { readonly name: string };
  readonly usages: readonly string[];
}

declare namespace LegateCrypto {
  type Bytes = ArrayBuffer | ArrayBufferView<ArrayBuffer>;
  type Algorithm = string | { readonly name: string; readonly [parameter: string]: unknown };

  interface Subtle {
    importKey(
      format: "raw",
      keyData: Bytes,
      algorithm: Algorithm,
      extractable: boolean,
      usages: readonly ("sign" | "verify" | "deriveBits")[],
    ): Promise<CryptoKey>;
    importKey(
      format: "jwk",
      keyData: object,
      algorithm: Algorithm,
      extractable: boolean,
      usages: readonly ("sign" | "verify")[],
    ): Promise<CryptoKey>;
    sign(algorithm: Algorithm, key: CryptoKey, data: Bytes): Promise<ArrayBuffer>;
    verify(algorithm: Algorithm, key: CryptoKey, signature: Bytes, data: Bytes): Promise<boolean>;
    deriveBits(algorithm: Algorithm, baseKey: CryptoKey, length: number): Promise<ArrayBuffer>;
    digest(algorithm: Algorithm, data: Bytes): Promise<ArrayBuffer>;
  }
}

declare const crypto: { readonly subtle: LegateCrypto.Subtle };
