/** Where secrets may be sent: https, or plain http on this machine, where a development STS listens. */

const PLACE = /^(?:https:\/\/[A-Za-z0-9.-]+|http:\/\/(?:127\.0\.0\.1|localhost|\[::1\]))(?::\d{1,5})?(\/[^\s#@\\]*)?$/;

/** @param text an absolute URL; one with a user, a password or a fragment is refused */
export function isHttpsOrLoopback(text: string): boolean {
  return PLACE.test(text);
}

/** As `isHttpsOrLoopback`, with no path. */
export function isHttpsOrLoopbackOrigin(text: string): boolean {
  const found = PLACE.exec(text);
  return found !== null && found[1] === undefined;
}
