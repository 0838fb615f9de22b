// Tokens whose bytes are wrong: grammar, header, chain of MACs.
import { TOKEN_LENGTH_MAX_BYTES } from "../../core/limits.ts";
import { append, base64url, forge, kidOf, signSegments } from "../../test/support/forge.ts";
import * as fixed from "../../test/support/deployment.ts";
import { claims, HEADER, invalid, key, keyOf, narrow, plain, respelt, type InvalidVector } from "./shared.ts";

const { KEYS, SECRETS, claimsOf } = fixed;
const [header, payload, signature] = plain.split(".") as [string, string, string];

/** What is no token, or was not signed as one. */
export async function invalidBytes(): Promise<InvalidVector[]> {
  const vectors: InvalidVector[] = [];
  const add = (...args: Parameters<typeof invalid>) => vectors.push(invalid(...args));
  // Grammar.
  for (const [name, token] of Object.entries({
    nothing: "",
    "one word": "token",
    "no signature": `${header}.${payload}`,
    "an empty signature": `${header}.${payload}.`,
    "a signature of 42 characters": plain.slice(0, -1),
    "a signature of 44 characters": `${plain}A`,
    "an empty header": `.${payload}.${signature}`,
    "an empty payload": `${header}..${signature}`,
    "the signature padded": `${plain.slice(0, -1)}=`,
    "the signature's last bits set": respelt(plain),
    "the signature in the other alphabet": `${header}.${payload}.${"+".repeat(43)}`,
    "a space before": ` ${plain}`.slice(0, 0) + `${header}.${payload}.${" ".repeat(43)}`,
    "a newline after": `${plain}\n`,
    "a character outside ASCII": `${header}.${payload.slice(0, -1)}é.${signature}`,
    "a lone surrogate": `${header}.${payload.slice(0, -1)}\ud800.${signature}`,
  }))
    add(name, "grammar", token);
  add("a space in front", "header", ` ${plain}`);
  add("the scheme in front", "header", `Bearer ${plain}`);
  const room = TOKEN_LENGTH_MAX_BYTES + 1 - plain.length - 1;
  add("4,097 characters", "too_long", append(plain, "A".repeat(room)));
  add(
    "4,096 characters of a block that is none",
    "block",
    append(plain, base64url("x".repeat(3)).padEnd(room - 1, "A")),
  );

  // The header: one spelling, looked up whole, although each of these carries a good MAC.
  for (const [name, other] of Object.entries({
    "alg none": { ...HEADER, alg: "none" },
    "alg nOnE": { ...HEADER, alg: "nOnE" },
    "alg HS512": { ...HEADER, alg: "HS512" },
    "alg RS256": { ...HEADER, alg: "RS256" },
    "typ JWT": { ...HEADER, typ: "JWT" },
    "no typ": { alg: HEADER.alg, kid: HEADER.kid },
    "no kid": { alg: HEADER.alg, typ: HEADER.typ },
    "kid unknown": { ...HEADER, kid: "AAAAAAAA" },
    "kid null": { ...HEADER, kid: null },
    "kid a list": { ...HEADER, kid: [HEADER.kid] },
    "kid __proto__": { ...HEADER, kid: "__proto__" },
    "kid a path": { ...HEADER, kid: "../../dev/null" },
    jwk: { ...HEADER, jwk: { kty: "oct", k: base64url(key) } },
    jku: { ...HEADER, jku: "https://attacker.example/jwks.json" },
    x5u: { ...HEADER, x5u: "https://attacker.example/x5u" },
    "crit unknown": { ...HEADER, crit: ["exp"] },
    "b64 false": { ...HEADER, crit: ["b64"], b64: false },
    zip: { ...HEADER, zip: "DEF" },
    cty: { ...HEADER, cty: "JWT" },
    "members in another order": { typ: HEADER.typ, alg: HEADER.alg, kid: HEADER.kid },
    "white space": `{"alg": "HS256","typ":"at+jwt","kid":"${HEADER.kid}"}`,
    "alg twice": `{"alg":"none","alg":"HS256","typ":"at+jwt","kid":"${HEADER.kid}"}`,
    "an escape": `{"alg":"HS\\u0032\\u0035\\u0036","typ":"at+jwt","kid":"${HEADER.kid}"}`,
  }))
    add(`header: ${name}`, "header", forge(key, other, claims));
  add("header: padded", "header", signSegments(key, `${header}=`, payload));

  // The chain.
  const two = await narrow(await narrow(plain, { scope: "read" }), { agents: ["catalog"] });
  const parts = two.split(".") as [string, string, string, string, string];
  add(
    "signature: one bit of it",
    "signature",
    `${header}.${payload}.${signature.startsWith("A") ? "B" : "A"}${signature.slice(1)}`,
  );
  add("signature: under a key of noughts", "signature", signSegments(new Uint8Array(32), header, payload));
  add("signature: under the root secret itself", "signature", signSegments(SECRETS.current, header, payload));
  add("signature: under the header's text", "signature", signSegments(Buffer.from(header), header, payload));
  add(
    "signature: by an audience's own key, claiming the issuer's audience",
    "signature",
    signSegments(keyOf("audience"), header, payload),
  );
  add("signature: by the cookie's key", "signature", signSegments(keyOf("cookie"), header, payload));
  add(
    "signature: by a secret that was rotated out, under the current kid",
    "signature",
    signSegments(keyOf("session", SECRETS.gone), header, payload),
  );
  add(
    "kid of a secret that was rotated out",
    "header",
    forge(keyOf("session", SECRETS.gone), { ...HEADER, kid: kidOf(SECRETS.gone) }, claims),
  );
  add(
    "kid of the other live secret, key of the first",
    "signature",
    forge(key, { ...HEADER, kid: kidOf(SECRETS.also) }, claims),
  );
  add("a cookie as a Bearer", "signature", await KEYS.cookie.mint(claimsOf()));
  add("a Bearer as a cookie", "signature", plain, "cookie");
  add("a token for another audience", "signature", await KEYS.audience.mint(claimsOf()));
  add("the issuer's token at an audience", "signature", plain, "audience");
  add(
    "one audience's token at one whose name starts alike",
    "signature",
    await KEYS.audience.mint(claimsOf()),
    "other",
  );
  add("blocks: the last dropped", "signature", [parts[0], parts[1], parts[2], parts[4]].join("."));
  add("blocks: the first dropped", "signature", [parts[0], parts[1], parts[3], parts[4]].join("."));
  add("blocks: all dropped", "signature", [parts[0], parts[1], parts[4]].join("."));
  add("blocks: swapped", "signature", [parts[0], parts[1], parts[3], parts[2], parts[4]].join("."));
  add(
    "blocks: the first repeated",
    "signature",
    [parts[0], parts[1], parts[2], parts[2], parts[3], parts[4]].join("."),
  );
  add("blocks: an outer signature as a plain token's", "signature", `${header}.${payload}.${two.slice(-43)}`);
  add("blocks: an empty one", "signature", `${header}.${payload}..${signature}`);
  add(
    "blocks: another token's",
    "signature",
    [parts[0], base64url(JSON.stringify({ ...claims, jti: "another" })), ...parts.slice(2)].join("."),
  );

  return vectors;
}
