// Models as data. Names and arguments are PyTorch's; layers find the sizes of their inputs themselves.
import type { Definition, Layer } from "./types.ts";

export const relu = (): Layer => "relu";
export const gelu = (): Layer => "gelu";
export const silu = (): Layer => "silu";
export const tanh = (): Layer => "tanh";
export const sigmoid = (): Layer => "sigmoid";
export const leakyRelu = (slope = 0.01): Layer => ({ leakyRelu: slope });
/** A sample becomes one row. */
export const flatten = (): Layer => "flatten";
/** The mean of each channel. */
export const globalAvgPool = (): Layer => "globalAvgPool";
export const batchNorm = (): Layer => "batchNorm";
export const layerNorm = (): Layer => "layerNorm";
/** Zeroes elements with this probability while training. */
export const dropout = (probability: number): Layer => ({ dropout: probability });
/** What goes in is added to what these layers make of it. */
export const residual = (layers: readonly Layer[]): Layer => ({ residual: layers });
/** Integers become vectors. */
export const embedding = (rows: number, features: number): Layer => ({ embedding: { rows, features } });

export const linear = (features: number, options: { bias?: boolean } = {}): Layer => ({ linear: { features, ...options } });

export interface ConvOptions {
    stride?: number;
    padding?: number;
    groups?: number;
    bias?: boolean;
}

/** Convolution of `[channels, height, width]`. */
export const conv2d = (filters: number, kernel: number | [number, number], options: ConvOptions = {}): Layer => ({
    conv2d: { filters, kernel, ...options },
});

export interface PoolOptions {
    /** The kernel's size if it is not given. */
    stride?: number | [number, number];
    padding?: number;
}

export const maxPool2d = (kernel: number | [number, number], options: PoolOptions = {}): Layer => ({ maxPool2d: { kernel, ...options } });
export const avgPool2d = (kernel: number | [number, number], options: PoolOptions = {}): Layer => ({ avgPool2d: { kernel, ...options } });

export interface SequentialOptions {
    /** The shape of one sample, such as `[1, 28, 28]`. */
    input: readonly number[];
    /** What its numbers are; float32 if not given. */
    dtype?: "float32" | "uint8" | "int32";
    /** The value that becomes 1: 255 for uint8, 1 for float32 if not given. */
    white?: number;
    /** `crossEntropy` (of classes) if not given, or `mse` (of numbers). */
    loss?: "crossEntropy" | "mse";
}

/** Layers one after the other; the last one gives a row of numbers, of which `crossEntropy` makes probabilities. */
export function sequential(options: SequentialOptions, layers: readonly Layer[]): Definition {
    return { model: { ...options, layers }, config: {} };
}

export interface GptOptions {
    /** Transformer blocks. */
    layers?: number;
    /** Attention heads of a block; they divide the width. */
    heads?: number;
    /** Features of a token. */
    width?: number;
    /** Bytes of text that a prediction looks back on. */
    context?: number;
    dropout?: number;
}

/** The byte-level GPT of the command line tool, whose files it shares. */
export function gpt(options: GptOptions = {}): Definition {
    return { task: "text", config: { ...options } };
}

/** The network of the command line tool's task `digits`: images of 8 x 8 from 0 (paper) to 16 (ink), ten classes. */
export function digitsNet(options: { width?: number; dropout?: number } = {}): Definition {
    return { task: "digits", config: { ...options } };
}
