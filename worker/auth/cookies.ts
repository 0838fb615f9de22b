/**
 * The two cookies of a person's browser. `__Host-legate` is their session; `__Host-legate-device` gives no right at all,
 * it only lets sign-in tell a machine that this person has used before from a stranger's (core/signin.ts). It names
 * nobody: a random id, and for each of the last few names a MAC over the id and that name.
 */
import { encodeBase64url } from "../../core/base64url.ts";
import { COOKIE_LIFE_SECONDS } from "../../core/limits.ts";
import { COOKIE_NAME } from "../../core/wire/http.ts";
import type { Edge } from "../env.ts";

const DEVICE_COOKIE_NAME = "__Host-legate-device";
const DEVICE_LIFE_SECONDS = 180 * 86_400;
const DEVICE_NAMES_MAX = 4; // a family's machine; the cookie stays under 250 bytes
const DEVICE_PATTERN = /^([A-Za-z0-9_-]{22})((?:\.[A-Za-z0-9_-]{43}){1,4})$/;
const ATTRIBUTES = "Path=/; HttpOnly; Secure; SameSite=Strict";

export function sessionCookie(value: string): string {
  return `${COOKIE_NAME}=${value}; ${ATTRIBUTES}; Max-Age=${COOKIE_LIFE_SECONDS}`;
}

export const CLEARED_SESSION_COOKIE = `${COOKIE_NAME}=; ${ATTRIBUTES}; Max-Age=0`;

interface Device {
  readonly id: string;
  readonly macs: readonly string[];
}

/** Nothing of it is believed until a MAC over the name in question is found in it. */
function unsafeDevice(request: Request): Device | null {
  const parts = (request.headers.get("cookie") ?? "").split(";").map((part) => part.trim());
  const values = parts.filter((part) => part.startsWith(`${DEVICE_COOKIE_NAME}=`));
  const [, id, macs] = DEVICE_PATTERN.exec(values[0]?.slice(DEVICE_COOKIE_NAME.length + 1) ?? "") ?? [];
  return values.length !== 1 || id === undefined || macs === undefined ? null : { id, macs: macs.slice(1).split(".") };
}

const messageOf = (id: string, name: string) => `${id}\n${name.toLowerCase()}`;

/** @returns the device's id, if it has signed in as that name before; else null */
export async function knownDevice(request: Request, name: string, edge: Edge): Promise<string | null> {
  const device = unsafeDevice(request);
  if (device === null) return null;
  for (const mac of device.macs) if (await edge.deviceKey.isSeal(mac, messageOf(device.id, name))) return device.id;
  return null;
}

/** @returns the cookie of a device on which that name has just signed in; the names before it are kept, newest first */
export async function deviceCookie(request: Request, name: string, edge: Edge): Promise<string> {
  const device = unsafeDevice(request);
  const id = device?.id ?? encodeBase64url(edge.random(16));
  const mac = await edge.deviceKey.seal(messageOf(id, name));
  const macs = [mac, ...(device?.macs ?? []).filter((other) => other !== mac)].slice(0, DEVICE_NAMES_MAX);
  return `${DEVICE_COOKIE_NAME}=${[id, ...macs].join(".")}; ${ATTRIBUTES}; Max-Age=${DEVICE_LIFE_SECONDS}`;
}
