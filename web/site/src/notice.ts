// What has to be said above the content: a lost GPU, a file that does not fit, no WebGPU at all.
import { NoDeviceError } from "wgrad";
import { $, el } from "./dom.ts";
import { message } from "./format.ts";

/** Says something, with buttons; another notice of the same key takes its place. */
export function notice(key: string, kind: "error" | "info", text: string, buttons: Record<string, () => void> = {}): void {
    dismiss(key);
    const close = () => dismiss(key);
    const actions = Object.entries({ ...buttons, Dismiss: () => {} }).map(([label, act]) =>
        el("button", { type: "button", onclick: () => { close(); act(); } }, label),
    );
    const box = el("div", { className: `notice ${kind}` }, el("p", {}, text), el("div", { className: "buttons" }, ...actions));
    box.dataset.key = key;
    $("notices").append(box);
}

export function dismiss(key: string): void {
    document.querySelectorAll<HTMLElement>(`.notice[data-key="${key}"]`).forEach((box) => box.remove());
}

/** In place of everything where there is no GPU for the page: why, and what to do. */
export function noDevice(error: unknown): void {
    const reason = error instanceof NoDeviceError ? error.reason : undefined;
    const advice = {
        insecure: ["Open this page by https: or from localhost; browsers give the GPU to no other pages."],
        unsupported: [
            "Chrome or Edge 113 or newer on Windows, macOS and ChromeOS; on Android Chrome 121 or newer.",
            "Safari 26 or newer on macOS, iOS and iPadOS.",
            "Firefox 141 or newer on Windows, 145 or newer on macOS.",
            "Chrome or Chromium on Linux: open chrome://flags/#enable-unsafe-webgpu, switch it on, and restart the browser. It may want chrome://flags/#enable-vulkan too.",
        ],
        adapter: [
            "Look whether hardware acceleration is switched on in the browser's settings, under System.",
            "On Linux, open chrome://flags/#enable-unsafe-webgpu and chrome://flags/#enable-vulkan, switch them on, and restart the browser.",
            "Update the graphics driver; chrome://gpu says what the browser holds against it.",
        ],
    }[reason ?? "adapter"];
    document.querySelectorAll<HTMLElement>(".part").forEach((part) => part.remove());
    $("notices").replaceChildren(
        el("section", { className: "missing", id: "no-webgpu" },
            el("h1", {}, "This page needs WebGPU"),
            el("div", { className: "card" },
                el("p", {}, `Everything here is computed on your own GPU, and your browser does not give it to this page: ${message(error)}`),
                el("h2", {}, "What helps"),
                el("ul", {}, ...advice.map((line) => el("li", {}, line))),
                el("div", { className: "buttons" }, el("button", { type: "button", className: "primary", onclick: () => location.reload() }, "Try again")),
            ),
        ),
    );
}
