// Figures as people read them. One locale, the browser's; one time zone, the viewer's, and UTC where SQL is.

const whole = new Intl.NumberFormat(undefined, { maximumFractionDigits: 0 });
const tenths = new Intl.NumberFormat(undefined, { minimumFractionDigits: 1, maximumFractionDigits: 1 });
const cents = new Intl.NumberFormat(undefined, { minimumFractionDigits: 2, maximumFractionDigits: 2 });
const short = new Intl.NumberFormat(undefined, { notation: "compact", maximumSignificantDigits: 3 });
const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const seconds = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const dayAndClock = new Intl.DateTimeFormat(undefined, {
  month: "short", day: "numeric", hour: "2-digit", minute: "2-digit",
});

export const NONE = "–";

type Figure = number | null | undefined;
const told = (format: (value: number) => string) => (value: Figure): string =>
  value === null || value === undefined || !Number.isFinite(value) ? NONE : format(value);

export const count = told((value) => whole.format(value));
/** As exact as there is room for: one more is seen, unless there are millions. */
export const exact = told((value) => (Math.abs(value) < 10_000_000 ? whole : short).format(value));
export const compact = told((value) => (Math.abs(value) < 10_000 ? whole : short).format(value));
export const money = exact;
export const price = told((value) => cents.format(value));
export const rate = told((value) => (Math.abs(value) < 100 ? tenths : whole).format(value));
export const share = told((value) =>
  value > 0 && value < 0.0001 ? `<${cents.format(0.01)} %` : `${(Math.abs(value) < 0.1 ? cents : tenths).format(value * 100)} %`);
export const bytes = told((value) => {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (Math.abs(value) >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${unit === 0 || value >= 100 ? whole.format(value) : tenths.format(value)} ${units[unit]}`;
});

/** Of milliseconds: "0.4 s", "12 s", "3 min", "2 h". */
export const age = told((ms) => {
  if (ms < 0) ms = 0;
  if (ms < 10_000) return `${tenths.format(ms / 1000)} s`;
  if (ms < 120_000) return `${whole.format(ms / 1000)} s`;
  if (ms < 7_200_000) return `${whole.format(ms / 60_000)} min`;
  return ms < 172_800_000 ? `${whole.format(ms / 3_600_000)} h` : `${whole.format(ms / 86_400_000)} d`;
});

export const millis = told((ms) => {
  if (ms < 1000) return `${(ms < 10 ? tenths : whole).format(ms)} ms`;
  return `${(ms < 10_000 ? tenths : whole).format(ms / 1000)} s`;
});
export const timeOf = (ms: number): string => clock.format(ms);
export const secondsOf = (ms: number): string => seconds.format(ms);
export const dateOf = (ms: number): string => dayAndClock.format(ms);

/** A moment as the server tells it. */
export const moment = (text: unknown): number | null => {
  const ms = typeof text === "string" ? Date.parse(text) : NaN;
  return Number.isNaN(ms) ? null : ms;
};

const regions = new Intl.DisplayNames(undefined, { type: "region" });

export function country(code: unknown): string {
  if (typeof code !== "string" || !/^[A-Z]{2}$/.test(code)) return text(code);
  return regions.of(code) ?? code;
}

export const text = (value: unknown): string =>
  value === null || value === undefined || value === "" ? "(none)" : String(value);
