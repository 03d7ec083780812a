// Files of the origin's private file system that survive a tab that is closed while they are written: each name has two
// slots, and the one that is written gets its head last. Runs in a worker, where files can be written in place.

const MAGIC = 0x31445247; // "GRD1"
const HEAD = 16;

async function folder(): Promise<FileSystemDirectoryHandle> {
    if (!navigator.storage?.getDirectory) throw new Error("this browser keeps no private files (OPFS), or not in a private window");
    const root = await navigator.storage.getDirectory();
    return root.getDirectoryHandle("wgrad", { create: true });
}

interface Slot {
    name: string;
    /** 0 if there is nothing whole in it. */
    serial: number;
    body?: Blob;
}

async function slots(name: string): Promise<Slot[]> {
    const all = await folder();
    const read = async (suffix: string): Promise<Slot> => {
        const own = `${encodeURIComponent(name)}.${suffix}`;
        const handle = await all.getFileHandle(own).catch(() => undefined);
        const file = await handle?.getFile();
        if (!file || file.size < HEAD) return { name: own, serial: 0 };
        const head = new DataView(await file.slice(0, HEAD).arrayBuffer());
        const whole = head.getUint32(0, true) === MAGIC && head.getFloat64(8, true) > 0;
        return { name: own, serial: whole ? head.getFloat64(8, true) : 0, body: file.slice(HEAD) };
    };
    return [await read("a"), await read("b")];
}

interface SyncHandle {
    truncate(size: number): void;
    write(bytes: Uint8Array, options: { at: number }): number;
    flush(): void;
    close(): void;
}

/** Writes a file; the one before stays until this one is whole. */
export async function save(name: string, bytes: Uint8Array): Promise<void> {
    const [a, b] = (await slots(name)) as [Slot, Slot];
    const older = a.serial <= b.serial ? a : b;
    const handle = await (await folder()).getFileHandle(older.name, { create: true });
    const open = (handle as unknown as { createSyncAccessHandle(): Promise<SyncHandle> }).createSyncAccessHandle();
    const file = await open.catch(() => {
        throw new Error(`"${name}" is being written by another tab`);
    });
    try {
        file.truncate(0);
        file.write(bytes, { at: HEAD });
        file.flush();
        const head = new DataView(new ArrayBuffer(HEAD));
        head.setUint32(0, MAGIC, true);
        head.setFloat64(8, Math.max(a.serial, b.serial) + 1, true);
        file.write(new Uint8Array(head.buffer), { at: 0 });
        file.flush();
    } finally {
        file.close();
    }
}

/** What was last saved under a name. */
export async function load(name: string): Promise<Uint8Array | undefined> {
    const [newest] = (await slots(name)).filter((slot) => slot.serial > 0).sort((a, b) => b.serial - a.serial);
    return newest?.body && new Uint8Array(await newest.body.arrayBuffer());
}

/** Removes what was saved under a name. */
export async function remove(name: string): Promise<void> {
    const all = await folder();
    for (const slot of await slots(name)) await all.removeEntry(slot.name).catch(() => undefined);
}
