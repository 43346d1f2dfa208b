// One connection for all that a page shows: `/api/watch` tells each answer when it has changed, and beats when nothing has.
//
// The browser's own EventSource is not left to reconnect: it gives up for good when a server that is starting answers 503,
// and it says nothing of a connection that hangs. So silence is noticed here, by the beats that did not come.

export type Row = Record<string, unknown>;
export type Touch = { state: "connecting" | "live" | "lost"; heardAt: number | null; since: number };

export interface Fault {
  message: string;
  hint?: string;
}

/** What is watched under a name, and what becomes of its answers. */
export interface Watched {
  /** The path of an endpoint with its parameters, or a SELECT. */
  what: string;
  rows(rows: Row[]): void;
  fault?(fault: Fault): void;
}

/** Beats come every five seconds. */
const SILENCE_MS = 8_000;
const AGAIN_MS = [500, 1_000, 2_000, 4_000];

const ASKED_EACH_MS = 4_000;

/** For a page that watches nothing: whether the server answers at all. Returns how to end it. */
export function touching(changed: (touch: Touch) => void): () => void {
  let heardAt: number | null = null;
  let since = Date.now();
  const ask = async (): Promise<void> => {
    const answer = await fetch("/health/live", { signal: AbortSignal.timeout(SILENCE_MS - ASKED_EACH_MS) }).catch(() => null);
    if (answer?.ok) heardAt = since = Date.now();
    else if (heardAt === since) since = Date.now();
    changed({ state: answer?.ok ? "live" : "lost", heardAt, since });
  };
  const timer = window.setInterval(() => void ask(), ASKED_EACH_MS);
  void ask();
  return () => window.clearInterval(timer);
}

export class Feed {
  private source: EventSource | null = null;
  private heardAt: number | null = null;
  private touchedAt = 0;
  private state: Touch["state"] = "connecting";
  private since = Date.now();
  private tries = 0;
  private again: number | undefined;
  private readonly watchdog: number;

  constructor(
    private readonly watched: Record<string, Watched>,
    private readonly connected: () => void,
    private readonly changed: (touch: Touch) => void,
  ) {
    this.watchdog = window.setInterval(() => this.look(), 500);
    this.open();
  }

  close(): void {
    window.clearInterval(this.watchdog);
    window.clearTimeout(this.again);
    this.source?.close();
    this.source = null;
  }

  private open(): void {
    const asked = new URLSearchParams(Object.entries(this.watched).map(([name, it]) => [name, it.what]));
    const source = new EventSource(`/api/watch?${asked}`);
    this.source = source;
    this.touchedAt = Date.now();
    source.onopen = () => {
      this.touched();
      this.connected();
    };
    source.onerror = () => this.broken();
    source.addEventListener("beat", () => this.touched());
    source.addEventListener("rows", (event) => {
      const told = JSON.parse(event.data) as { of: string; rows: Row[] };
      this.heardAt = Date.now();
      this.watched[told.of]?.rows(told.rows);
      this.touched();
    });
    source.addEventListener("fault", (event) => {
      const told = JSON.parse(event.data) as { of: string; error: Fault };
      this.watched[told.of]?.fault?.(told.error);
      this.touched();
    });
  }

  private touched(): void {
    this.touchedAt = Date.now();
    this.tries = 0;
    this.become("live");
  }

  private broken(): void {
    this.source?.close();
    this.source = null;
    this.become("lost");
    window.clearTimeout(this.again);
    const wait = AGAIN_MS[Math.min(this.tries, AGAIN_MS.length - 1)] ?? 0;
    this.tries += 1;
    // A crowd of pages does not come back in one moment.
    this.again = window.setTimeout(() => this.open(), wait * (0.75 + Math.random() / 2));
  }

  private look(): void {
    if (this.source && Date.now() - this.touchedAt > SILENCE_MS) this.broken();
    else this.tell();
  }

  private become(state: Touch["state"]): void {
    if (this.state !== state) {
      this.state = state;
      this.since = Date.now();
    }
    this.tell();
  }

  private tell(): void {
    this.changed({ state: this.state, heardAt: this.heardAt, since: this.since });
  }
}

/** Asks once. */
export async function ask(path: string): Promise<Row[]> {
  const answer = await fetch(path, { headers: { accept: "application/json" } });
  if (!answer.ok) throw await faultOf(answer);
  return (await answer.json()) as Row[];
}

export async function faultOf(answer: Response): Promise<Fault & { line?: number; column?: number; detail?: string }> {
  try {
    return ((await answer.json()) as { error: Fault }).error;
  } catch {
    return { message: `the server answered ${answer.status}` };
  }
}

export const number = (value: unknown): number => (typeof value === "number" ? value : Number(value ?? 0));
export const numberOrNull = (value: unknown): number | null =>
  value === null || value === undefined ? null : Number(value);
