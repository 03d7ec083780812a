// Reads safetensors files: for looking at weights.

export interface Tensor {
    dtype: string;
    shape: number[];
    /** The tensor's own bytes; f32 values with `new Float32Array(bytes.slice().buffer)`. */
    bytes: Uint8Array;
}

export interface Safetensors {
    tensors: Map<string, Tensor>;
    metadata: Record<string, string>;
}

/** The tensors and texts of a file. */
export async function readSafetensors(file: Blob | ArrayBuffer | Uint8Array): Promise<Safetensors> {
    const bytes = file instanceof Uint8Array ? file : new Uint8Array(file instanceof Blob ? await file.arrayBuffer() : file);
    if (bytes.length < 8) throw new Error("this is not a safetensors file: it is too short");
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const length = Number(view.getBigUint64(0, true));
    if (length > bytes.length - 8) throw new Error("this is not a safetensors file: its header is longer than the file");
    const header = JSON.parse(new TextDecoder().decode(bytes.subarray(8, 8 + length))) as Record<string, unknown>;
    const tensors = new Map<string, Tensor>();
    for (const [name, about] of Object.entries(header)) {
        if (name === "__metadata__") continue;
        const { dtype, shape, data_offsets } = about as { dtype: string; shape: number[]; data_offsets: [number, number] };
        tensors.set(name, { dtype, shape, bytes: bytes.subarray(8 + length + data_offsets[0], 8 + length + data_offsets[1]) });
    }
    return { tensors, metadata: (header.__metadata__ as Record<string, string>) ?? {} };
}

/** The values of an f32 tensor. */
export function values(tensor: Tensor): Float32Array {
    if (tensor.dtype !== "F32") throw new Error(`the tensor is of type ${tensor.dtype}, not F32`);
    return new Float32Array(tensor.bytes.slice().buffer);
}
