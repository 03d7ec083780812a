// Numbers as people read them.

export function bytes(n: number): string {
    if (n >= 2 ** 30) return `${(n / 2 ** 30).toFixed(2)} GiB`;
    if (n >= 2 ** 20) return `${(n / 2 ** 20).toFixed(1)} MiB`;
    if (n >= 2 ** 10) return `${(n / 2 ** 10).toFixed(1)} KiB`;
    return `${n} bytes`;
}

export const count = (n: number): string => Math.round(n).toLocaleString("en");

export function milliseconds(ms: number): string {
    if (ms >= 10_000) return `${(ms / 1000).toFixed(1)} s`;
    if (ms >= 1000) return `${(ms / 1000).toFixed(2)} s`;
    return ms >= 10 ? `${ms.toFixed(0)} ms` : `${ms.toFixed(1)} ms`;
}

export const percent = (part: number): string => `${(100 * part).toFixed(1)}%`;

/** Multiples of a thousand, short: 1.2 G. */
export function short(n: number): string {
    for (const [size, unit] of [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]] as const) {
        if (n >= size) return `${(n / size).toFixed(n >= 100 * size ? 0 : 1)} ${unit}`;
    }
    return n.toFixed(0);
}

export function message(error: unknown): string {
    return error instanceof Error ? error.message : String(error);
}

export function median(numbers: readonly number[]): number {
    const sorted = [...numbers].sort((a, b) => a - b);
    return sorted[sorted.length >> 1] ?? Number.NaN;
}
