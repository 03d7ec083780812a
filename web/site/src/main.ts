// The demo site: three parts, one shown at a time by the address's hash, on one GPU.
import "./style.css";
import { $ } from "./dom.ts";
import { DigitsPage } from "./digits/page.ts";
import { Gpu } from "./gpu.ts";
import { GpuPage } from "./gpu/page.ts";
import { message } from "./format.ts";
import { noDevice, notice } from "./notice.ts";
import { TextPage } from "./text/page.ts";

const TITLES: Record<string, string> = { draw: "Draw and learn", text: "A language model from your text", gpu: "Your GPU" };

interface Part {
    begin(): Promise<void>;
}

function toggleTheme(): void {
    const theme = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
    document.documentElement.dataset.theme = theme;
    try {
        localStorage.setItem("theme", theme);
    } catch {
        // It is forgotten with the page.
    }
    document.dispatchEvent(new Event("themechange"));
}

/** Shows the part that the address names. */
function show(parts: Record<string, Part>, moved: boolean): void {
    const asked = location.hash.slice(1);
    if (asked === "main") return;
    const name = asked in parts ? asked : "draw";
    for (const part of Object.keys(parts)) $(part).hidden = part !== name;
    document.querySelectorAll("nav a").forEach((link) => {
        if (link.getAttribute("href") === `#${name}`) link.setAttribute("aria-current", "page");
        else link.removeAttribute("aria-current");
    });
    document.title = `${TITLES[name]} · wgrad`;
    if (moved) {
        window.scrollTo(0, 0);
        $("main").focus({ preventScroll: true });
    }
    parts[name]?.begin().catch((error) => {
        // Without a GPU that is said already.
        if (!document.body.classList.contains("no-gpu")) notice("part", "error", message(error), { Reload: () => location.reload() });
    });
}

async function begin(): Promise<void> {
    $("theme").addEventListener("click", toggleTheme);
    const gpu = new Gpu();
    // While the program is on its way, the page is made.
    const device = gpu.device();
    device.catch(() => undefined);
    const parts: Record<string, Part> = { draw: new DigitsPage(gpu), text: new TextPage(gpu), gpu: new GpuPage(gpu) };
    window.addEventListener("hashchange", () => show(parts, true));
    show(parts, false);
    try {
        await device;
    } catch (error) {
        noDevice(error);
    }
}

void begin();
