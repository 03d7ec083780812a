// Results of the benchmark: measured here, measured elsewhere, and as a file that two people can compare.

export const WORKLOADS = [
    { name: "W1-512", about: "products of matrices, 512 × 512" },
    { name: "W2", about: "perceptron, 0.7 million weights" },
    { name: "W3", about: "convolutional network" },
    { name: "W4", about: "small GPT, 1,024 letters a step" },
] as const;

export type Name = (typeof WORKLOADS)[number]["name"];

export interface Result {
    /** Milliseconds of a step (W1: of a product): the middle one and the least. */
    median_ms: number;
    min_ms: number;
    /** Milliseconds from nothing to the end of the first step. */
    first_ms: number;
    steps: number;
}

/** What is shared. */
export interface Report {
    kind: "wgrad-web-bench";
    version: 1;
    adapter: string;
    browser: string;
    date: string;
    results: Partial<Record<Name, Result>>;
}

/** Two CPU cores without a GPU: Chromium's software adapter (SwiftShader), medians of 2026-11-29 from docs/performance.md. */
export const REFERENCE: { label: string; results: Partial<Record<Name, number>> } = {
    label: "No GPU: SwiftShader on two CPU cores",
    results: { "W1-512": 49, W2: 90, W3: 206, W4: 1644 },
};

/** Work a second in the unit that says most. */
export function speed(name: Name, ms: number): string {
    switch (name) {
        case "W1-512": return `${((2 * 512 ** 3) / ms / 1e6).toFixed(1)} GFLOP/s`;
        case "W4": return `${Math.round(1024 / (ms / 1000)).toLocaleString("en")} letters/s`;
        default: return `${(1000 / ms).toFixed(ms > 100 ? 1 : 0)} steps/s`;
    }
}

/** Reads a shared file; anything else is an error that says so. */
export function parse(text: string): Report {
    const refuse = (why: string) => new Error(`this is not a result of this page: ${why}`);
    let report: Report;
    try {
        report = JSON.parse(text) as Report;
    } catch {
        throw refuse("it is not JSON");
    }
    if (report?.kind !== "wgrad-web-bench" || report.version !== 1) throw refuse("it does not call itself wgrad-web-bench, version 1");
    const results: Report["results"] = {};
    for (const { name } of WORKLOADS) {
        const result = report.results?.[name];
        if (result && [result.median_ms, result.min_ms].every((ms) => Number.isFinite(ms) && ms > 0)) results[name] = result;
    }
    return { ...report, adapter: String(report.adapter).slice(0, 80), browser: String(report.browser).slice(0, 80), results };
}

/** The browser's name and version, as it gives them. */
export function browser(): string {
    const brands = (navigator as { userAgentData?: { brands: { brand: string; version: string }[] } }).userAgentData?.brands ?? [];
    const own = brands.find(({ brand }) => !/not.?a.?brand|^Chromium$/i.test(brand)) ?? brands.find(({ brand }) => brand === "Chromium");
    return own ? `${own.brand} ${own.version}` : (navigator.userAgent.match(/(Firefox|Version)\/[\d.]+/)?.[0].replace("Version", "Safari").replace("/", " ") ?? "unknown");
}
