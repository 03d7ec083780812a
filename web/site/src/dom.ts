// Small helpers for the page's elements.

/** The element of an id; that it is there is the page's own affair. */
export function $<T extends HTMLElement = HTMLElement>(id: string): T {
    const found = document.getElementById(id);
    if (!found) throw new Error(`the page has no #${id}`);
    return found as T;
}

type Child = Node | string;

/** A new element with properties and children. */
export function el<K extends keyof HTMLElementTagNameMap>(
    name: K, properties: Partial<HTMLElementTagNameMap[K]> = {}, ...children: Child[]
): HTMLElementTagNameMap[K] {
    const element = document.createElement(name);
    Object.assign(element, properties);
    element.append(...children);
    return element;
}

/** A new SVG element with attributes. */
export function svg(name: string, attributes: Record<string, string | number>, ...children: Child[]): SVGElement {
    const element = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, String(value));
    element.append(...children);
    return element;
}

/** A colour of the theme. */
export function colour(name: string): string {
    return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

/** Calls back now, and whenever the theme changes. */
export function onTheme(draw: () => void): void {
    document.addEventListener("themechange", draw);
    draw();
}

/** Has a file saved by the browser. */
export function download(blob: Blob, name: string): void {
    const url = URL.createObjectURL(blob);
    el("a", { href: url, download: name }).click();
    setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

/** Gives the first file that is chosen, each time. */
export function onFile(input: HTMLInputElement, take: (file: File) => void): void {
    input.addEventListener("change", () => {
        const file = input.files?.[0];
        if (file) take(file);
        input.value = ""; // The same file may be chosen again.
    });
}
