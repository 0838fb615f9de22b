/**
 * What a client may know before it has any credential: where to get one, and with which keys it can check what this
 * deployment signs. The same for everyone, cacheable, public keys only.
 */
import { err, ok } from "../core/result.ts";
import type { Answer, Call, PublicRoute } from "./call.ts";
import { json } from "./respond.ts";

const CACHED = { "cache-control": "public, max-age=300" } as const; // a stop of a key's use is a deploy away

const CLIENT_AUTH = {
  methods: ["private_key_jwt"],
  algorithms: ["ES256", "EdDSA"],
} as const;

/** RFC 8414 §2. There is no authorization endpoint: a person never hands a browser redirect to a client. */
function authorizationServer({ edge: { issuer, config } }: Call): Answer {
  return ok(
    json(
      {
        issuer,
        token_endpoint: `${issuer}/oauth/token`,
        token_endpoint_auth_methods_supported: CLIENT_AUTH.methods,
        token_endpoint_auth_signing_alg_values_supported: CLIENT_AUTH.algorithms,
        introspection_endpoint: `${issuer}/oauth/introspect`,
        introspection_endpoint_auth_methods_supported: CLIENT_AUTH.methods,
        introspection_endpoint_auth_signing_alg_values_supported: CLIENT_AUTH.algorithms,
        revocation_endpoint: `${issuer}/oauth/revoke`,
        revocation_endpoint_auth_methods_supported: CLIENT_AUTH.methods,
        revocation_endpoint_auth_signing_alg_values_supported: CLIENT_AUTH.algorithms,
        registration_endpoint: `${issuer}/oauth/register`,
        jwks_uri: `${issuer}/.well-known/jwks.json`,
        grant_types_supported: [
          "client_credentials",
          "urn:ietf:params:oauth:grant-type:token-exchange",
          ...([...config.issuers.values()].some((foreign) => foreign.for === "sessions")
            ? ["urn:ietf:params:oauth:grant-type:jwt-bearer"]
            : []),
        ],
        response_types_supported: [],
        scopes_supported: [...config.scopes.keys()],
      },
      200,
      CACHED,
    ),
  );
}

/** RFC 9728 §2, of the whole deployment or of one agent, whose URL is then the resource (RFC 8707). */
function protectedResource({ edge: { issuer, config }, params }: Call): Answer {
  const { slug } = params;
  const entry = slug === undefined ? null : config.agents.get(slug);
  if (entry === undefined) return err({ reason: "not_found" });
  return ok(
    json(
      {
        resource: entry === null ? issuer : `${issuer}/agents/${entry.slug}`,
        resource_name: entry === null ? "Legate" : entry.name,
        authorization_servers: [issuer],
        scopes_supported: entry === null ? [...config.scopes.keys()] : entry.requiredScopes,
        bearer_methods_supported: ["header"],
        // What one call is held and expected to cost, in micros: a caller plans with the one, and needs room for the other.
        ...(entry === null ? {} : { legate_cost: entry.cost }),
      },
      200,
      CACHED,
    ),
  );
}

/** OpenID Connect Discovery §3, for clouds: what is signed is web-identity tokens, and nobody signs in here with OIDC. */
function openidConfiguration({ edge: { issuer } }: Call): Answer {
  const metadata = {
    issuer,
    jwks_uri: `${issuer}/.well-known/jwks.json`,
    response_types_supported: ["id_token"],
    subject_types_supported: ["public"],
    id_token_signing_alg_values_supported: ["ES256"],
    claims_supported: ["iss", "sub", "aud", "iat", "exp", "jti"],
  };
  return ok(json(metadata, 200, CACHED));
}

/** RFC 7517 §5, the key that signs first. Session tokens are not in it: their keys are symmetric. */
function jwks({ edge: { publicJwks } }: Call): Answer {
  return ok(json({ keys: publicJwks }, 200, CACHED));
}

const get = (path: string, answer: (call: Call) => Answer): PublicRoute => ({
  method: "GET",
  path: `/.well-known/${path}`,
  handler: async (call) => answer(call),
});

export const DISCOVERY: readonly PublicRoute[] = [
  get("oauth-authorization-server", authorizationServer),
  get("oauth-protected-resource", protectedResource),
  get("oauth-protected-resource/agents/:slug", protectedResource),
  get("openid-configuration", openidConfiguration),
  get("jwks.json", jwks),
];
