/**
 * An agent's own proof: `private_key_jwt` (RFC 7523), a fresh assertion for every question, and the questions to
 * `/oauth/…` that need one. The private key never leaves the CryptoKey; nothing here is ever printed.
 */
import { encodeBase64url } from "../../core/base64url.ts";
import { ASSERTION_LIFE_MAX_SECONDS } from "../../core/limits.ts";
import { encodeObject } from "../../core/token/format.ts";
import { LegateError, readObject } from "./errors.ts";

const JWT_BEARER = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
const TOKEN_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange";
const ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token";

// Written so that the types of browsers, node and Workers all do: each has the value CryptoKey, not all have its type.
type SigningKey = InstanceType<typeof CryptoKey>;

/** A private JWK, of the kinds that are taken (RFC 7518 §6.2, RFC 8037 §2). */
export interface PrivateJwk {
  readonly kty: string;
  readonly crv: string;
  readonly x: string;
  readonly y?: string;
  readonly d: string;
}

/** A private key: a CryptoKey that may sign, or a private JWK; P-256 (ES256) or Ed25519. */
export type ClientKey = SigningKey | PrivateJwk;

/** What goes into an exchange besides the client's proof. */
export type Form = Readonly<Record<string, string | undefined>>;

interface Algorithm {
  readonly alg: "ES256" | "EdDSA";
  readonly sign: { readonly name: string; readonly hash?: string };
  readonly import: { readonly name: string; readonly namedCurve?: string };
}

const ES256: Algorithm = {
  alg: "ES256",
  sign: { name: "ECDSA", hash: "SHA-256" },
  import: { name: "ECDSA", namedCurve: "P-256" },
};
const ED25519: Algorithm = { alg: "EdDSA", sign: { name: "Ed25519" }, import: { name: "Ed25519" } };

function algorithmOf(key: ClientKey): Algorithm {
  const { name, namedCurve = name } = (key instanceof CryptoKey ? key.algorithm : { name: key.crv }) as {
    readonly name: string;
    readonly namedCurve?: string;
  };
  if (namedCurve === "P-256") return ES256;
  if (namedCurve === "Ed25519") return ED25519;
  throw new TypeError("an agent's key is P-256 (ES256) or Ed25519");
}

export class ClientCredentials {
  readonly issuer: string;
  readonly clientId: string;
  readonly #key: SigningKey;
  readonly #algorithm: Algorithm;

  private constructor(issuer: string, clientId: string, key: SigningKey, algorithm: Algorithm) {
    this.issuer = issuer;
    this.clientId = clientId;
    this.#key = key;
    this.#algorithm = algorithm;
  }

  static async from(issuer: string, clientId: string, key: ClientKey): Promise<ClientCredentials> {
    const algorithm = algorithmOf(key);
    const imported =
      key instanceof CryptoKey
        ? key
        : await crypto.subtle.importKey("jwk", { ...key }, algorithm.import, false, ["sign"]);
    if (imported.type !== "private" || !imported.usages.includes("sign"))
      throw new TypeError("an agent's key must be a private key that may sign");
    return new ClientCredentials(new URL(issuer).origin, clientId, imported, algorithm);
  }

  /** Signs one assertion; it is good for one question, within a minute. */
  async #assertion(): Promise<string> {
    const now = Math.floor(Date.now() / 1000);
    const head = encodeObject({ alg: this.#algorithm.alg, typ: "JWT" });
    const body = encodeObject({
      iss: this.clientId,
      sub: this.clientId,
      aud: this.issuer,
      iat: now,
      exp: now + ASSERTION_LIFE_MAX_SECONDS,
      jti: encodeBase64url(crypto.getRandomValues(new Uint8Array(16))),
    });
    const bytes = new TextEncoder().encode(`${head}.${body}`);
    const signature = await crypto.subtle.sign(this.#algorithm.sign, this.#key, bytes);
    return `${head}.${body}.${encodeBase64url(new Uint8Array(signature))}`;
  }

  /** Asks `/oauth/…` with a fresh assertion. @throws LegateError with the code of RFC 6749 §5.2 */
  async #post(path: string, form: Form): Promise<Record<string, unknown>> {
    const body = new URLSearchParams({
      client_id: this.clientId,
      client_assertion_type: JWT_BEARER,
      client_assertion: await this.#assertion(),
    });
    for (const [name, value] of Object.entries(form)) if (value !== undefined) body.set(name, value);
    const response = await reach(`${this.issuer}${path}`, { method: "POST", body, redirect: "error" });
    if (!response.ok) throw await LegateError.fromResponse(response);
    return readObject(response);
  }

  async #token(form: Form): Promise<string> {
    const { access_token: token } = await this.#post("/oauth/token", form);
    if (typeof token !== "string") throw new LegateError("unexpected_answer", "The answer carried no token.");
    return token;
  }

  /** A new session of this agent. */
  open(asked: Form): Promise<string> {
    return this.#token({ grant_type: "client_credentials", ...asked });
  }

  /** Redeems a delegation, narrows, or with nothing asked renews. */
  exchange(subject: string, asked: Form = {}): Promise<string> {
    return this.#token({
      grant_type: TOKEN_EXCHANGE,
      subject_token: subject,
      subject_token_type: ACCESS_TOKEN,
      ...asked,
    });
  }

  async revoke(token: string): Promise<void> {
    await this.#post("/oauth/revoke", { token, token_type_hint: "access_token" });
  }
}

/** `fetch`, whose failures are told like every other. */
export async function reach(url: string | URL, init: RequestInit): Promise<Response> {
  try {
    return await fetch(url, init);
  } catch (cause) {
    throw new LegateError("unreachable", `${new URL(url).origin} could not be reached.`, { cause });
  }
}
