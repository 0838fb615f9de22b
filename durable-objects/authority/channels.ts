/**
 * Control channels: SessionAuthority's own hibernating sockets, which tell of one node what its holder ought to know:
 * that its token expires, what is left of its budget, that it is paused, that it has ended. They carry nothing to serve
 * and take nothing; a client that sends is closed. What must survive hibernation lies in the socket's own state.
 */
import type { Connection } from "partyserver";
import { decideHold } from "../../core/budget/ledger.ts";
import type { LegateConfig } from "../../core/config.ts";
import { isAtOrBelow, sessionOf, type EpochMs, type Micros, type NodePath } from "../../core/ids.ts";
import { CHANNELS_SESSION_MAX, EXPIRING_LEAD_MS } from "../../core/limits.ts";
import { CLOSE, closeCodeOf, closeReason, controlFrame } from "../../core/wire/frames.ts";
import type { Denial, EndReason } from "../../core/denial.ts";
import type { Result } from "../../core/result.ts";
import type { ChannelOrder } from "../../core/wire/questions.ts";
import type { Alarms } from "./alarms.ts";
import type { Charging } from "./charging.ts";
import type { Context } from "./context.ts";
import type { Lines, LiveLine } from "./line.ts";

/** In the socket's attachment. */
interface Seat extends ChannelOrder {
  /** When it is told that it expires; null once told. */
  readonly warnAt: number | null;
  readonly isPaused: boolean;
  /** The last `legate.budget` that it was sent. */
  readonly told: string;
}

type Channel = Connection<Seat>;

const GATHER_MS = 250; // a burst of calls is one frame

export class Channels {
  readonly #context: Context;
  readonly #lines: Lines;
  readonly #charging: Charging;
  readonly #alarms: Alarms;
  readonly #open: () => Iterable<Channel>;

  constructor(parts: {
    context: Context;
    lines: Lines;
    charging: Charging;
    alarms: Alarms;
    open: () => Iterable<unknown>;
  }) {
    this.#context = parts.context;
    this.#lines = parts.lines;
    this.#charging = parts.charging;
    this.#alarms = parts.alarms;
    this.#open = parts.open as () => Iterable<Channel>;
    this.#alarms.define("channels", { where: "local", run: () => this.#look() });
  }

  /** A channel that the edge has let in; it is accepted already, and the line is looked at now. */
  welcome(connection: Connection, { path, listener, expires }: ChannelOrder): void {
    const channel = connection as Channel;
    const now = this.#context.now();
    const session = sessionOf(path);
    const others = [...this.#open()].filter(({ id, state }) => id !== channel.id && state?.path.startsWith(session));
    if (others.length >= CHANNELS_SESSION_MAX)
      return channel.close(CLOSE.tryLater, closeReason("quota_reached", session));
    const live = this.#requireLive({ path, listener }, now);
    if (!live.ok) {
      const { denial } = live;
      const code = denial.reason === "ended" ? closeCodeOf(denial.why) : CLOSE.terminated;
      return channel.close(code, closeReason("session_ended", session));
    }
    const warnAt = expires - Math.min(EXPIRING_LEAD_MS, Math.max(0, expires - now) / 3);
    channel.setState({ path, listener, expires, warnAt, isPaused: false, told: "" });
    this.#tell(channel, live.value, now);
    this.#context.commit(() => this.#alarms.schedule("channels", "", warnAt as EpochMs));
  }

  /** Some budget has moved: whoever listens is told soon. */
  moved(): void {
    for (const _ of this.#open()) {
      this.#context.commit(() => this.#alarms.schedule("channels", "", (this.#context.now() + GATHER_MS) as EpochMs));
      return;
    }
  }

  /** After the commit of a mark. */
  stopped(path: NodePath, why: EndReason, decision: number): void {
    const frame = controlFrame({
      type: "legate.terminated",
      reason: why,
      decision: `${this.#context.user}.${decision}`,
    });
    for (const channel of this.#open()) {
      const seat = channel.state;
      if (seat === null || (!isAtOrBelow(seat.path, path) && !isAtOrBelow(seat.listener, path))) continue;
      send(channel, frame);
      channel.close(closeCodeOf(why), closeReason("session_ended", path));
    }
  }

  /** Both ends live: what is shown, and who is shown it. @returns the line of what is shown */
  #requireLive({ path, listener }: Pick<ChannelOrder, "path" | "listener">, now: EpochMs): Result<LiveLine, Denial> {
    const listens = this.#lines.requireLivePath(listener, now);
    return listens.ok ? this.#lines.requireLivePath(path, now) : listens;
  }

  #look(): void {
    const now = this.#context.now();
    let next = Infinity;
    for (const channel of this.#open()) {
      let seat = channel.state;
      if (seat === null) continue;
      const live = this.#requireLive(seat, now);
      if (seat.expires <= now || !live.ok) {
        channel.close(CLOSE.expired, closeReason("token_expired", sessionOf(seat.path)));
        continue;
      }
      if (seat.warnAt !== null && seat.warnAt <= now) {
        send(channel, controlFrame({ type: "legate.expiring", at: seat.expires }));
        seat = { ...seat, warnAt: null };
        channel.setState(seat);
      }
      next = Math.min(next, seat.warnAt ?? seat.expires);
      this.#tell(channel, live.value, now);
    }
    if (next < Infinity)
      this.#context.commit(() => this.#alarms.schedule("channels", "", Math.max(now + 50, next) as EpochMs));
  }

  /** `legate.budget` where it is another than the last, and `legate.paused` when nothing more can be called for. */
  #tell(channel: Channel, live: LiveLine, now: EpochMs): void {
    const seat = channel.state;
    if (seat === null) return;
    const { remaining, held } = this.#charging.budgetOf(seat.path, live, now);
    const frame = controlFrame({ type: "legate.budget", remaining, held });
    const isPaused = this.#isPaused(seat.path, live, now);
    if (frame === seat.told && isPaused === seat.isPaused) return;
    if (frame !== seat.told) send(channel, frame);
    if (isPaused && !seat.isPaused) send(channel, controlFrame({ type: "legate.paused", node: seat.path }));
    channel.setState({ ...seat, told: frame, isPaused });
  }

  #isPaused(path: NodePath, live: LiveLine, now: EpochMs): boolean {
    const least = leastCost(this.#context.config, this.#lines.grantOf(path)?.scope ?? []);
    if (least === null || least === 0) return false;
    const room = decideHold(this.#charging.levels(path, live, now), least, now, now);
    return !room.ok && room.denial.reason === "budget_exhausted";
  }
}

/** The least that anything a scope reaches may cost; null where it reaches nothing. */
function leastCost(config: LegateConfig, scope: readonly string[]): Micros | null {
  let least: Micros | null = null;
  for (const { enabled, requiredScopes, cost } of config.agents.values()) {
    if (!enabled || !requiredScopes.every((name) => scope.includes(name))) continue;
    if (least === null || cost.most < least) least = cost.most;
  }
  return least;
}

function send(channel: Channel, frame: string): void {
  try {
    channel.send(frame);
  } catch {
    // it has closed in the meantime
  }
}
