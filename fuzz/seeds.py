"""Writes the first files of the corpora that are not made by hand: needs onnx, numpy and pillow.

    python fuzz/seeds.py fuzz/corpus
"""

import io
import json
import pathlib
import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

KINDS = {"float32": "F32", "float16": "F16", "uint8": "U8"}


def save(tensors, metadata=None):
    """A safetensors file."""
    header, data = ({"__metadata__": metadata} if metadata else {}), b""
    for name, array in tensors.items():
        content = array.tobytes()
        place = [len(data), len(data) + len(content)]
        header[name] = {"dtype": KINDS[str(array.dtype)], "shape": list(array.shape), "data_offsets": place}
        data += content
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data


ROOT = pathlib.Path(sys.argv[1])


def put(target, name, content):
    path = ROOT / target / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def floats(*shape):
    return np.arange(int(np.prod(shape)), dtype=np.float32).reshape(shape)


def ints(*values):
    return np.array(values, dtype=np.int64)


def model(nodes, inputs, initializers=(), functions=(), opset=20, outputs=("y",)):
    info = [helper.make_tensor_value_info(name, kind, shape) for name, kind, shape in inputs]
    out = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
    tensors = [numpy_helper.from_array(array, name) for name, array in initializers]
    graph = helper.make_graph(nodes, "g", info, out, initializer=tensors)
    imports = [helper.make_opsetid("", opset), helper.make_opsetid("own", 1)]
    made = helper.make_model(graph, opset_imports=imports, functions=list(functions), producer_name="")
    return made.SerializeToString()


F, I, B = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL


def single(op, shapes, constants=(), outputs=("y",), **attributes):
    """One node, whose inputs are floats of these shapes and then constants."""
    names = [f"x{i}" for i in range(len(shapes))]
    given = [(f"c{i}", value) for i, value in enumerate(constants)]
    node = helper.make_node(op, names + [name for name, _ in given], list(outputs), **attributes)
    return model([node], [(n, F, s) for n, s in zip(names, shapes)], given, outputs=outputs[:1])


def onnx_seeds():
    for op in ["Relu", "Sigmoid", "Softmax", "Erf", "Flatten", "Shape", "Transpose", "GlobalAveragePool", "Det"]:
        yield op, single(op, [[2, 3]] if op != "Det" else [[3, 3]])
    for op in ["Add", "Mul", "Div", "Pow", "MatMul", "Gemm", "Concat", "Max", "Mean"]:
        yield op, single(op, [[2, 2], [2, 2]], **({"axis": 0} if op == "Concat" else {}))
    yield "Conv", single("Conv", [[1, 2, 5, 5], [4, 1, 3, 3]], group=2, pads=[1, 1, 1, 1], strides=[2, 2])
    yield "ConvTranspose", single("ConvTranspose", [[1, 2, 3, 3], [2, 1, 3, 3]], output_padding=[1, 1], strides=[2, 2])
    yield "DeformConv", single("DeformConv", [[1, 1, 3, 3], [1, 1, 2, 2], [1, 8, 2, 2]], kernel_shape=[2, 2])
    for op in ["MaxPool", "AveragePool", "LpPool"]:
        yield op, single(op, [[1, 1, 6, 6]], kernel_shape=[2, 2], auto_pad="SAME_UPPER")
    yield "MaxUnpool", single("MaxUnpool", [[1, 1, 2, 2]], [ints(5, 7, 13, 15).reshape(1, 1, 2, 2)], kernel_shape=[2, 2])
    yield "BatchNorm", single("BatchNormalization", [[2, 3, 4], [3], [3], [3], [3]])
    yield "LayerNorm", single("LayerNormalization", [[2, 3, 4], [4]], axis=-1)
    yield "GroupNorm", single("GroupNormalization", [[2, 4, 4], [4], [4]], num_groups=2)
    yield "LRN", single("LRN", [[1, 5, 2]], size=3)
    yield "Resize", single("Resize", [[1, 1, 4, 4]], [np.array([], np.float32), np.array([1, 1, 0.6, 1.5], np.float32)],
                           mode="cubic")
    yield "GridSample", single("GridSample", [[1, 1, 4, 4], [1, 3, 3, 2]])
    yield "AffineGrid", single("AffineGrid", [[1, 2, 3]], [ints(1, 1, 2, 2)])
    yield "RoiAlign", single("RoiAlign", [[1, 1, 4, 4], [1, 4]], [ints(0)])
    yield "Reshape", single("Reshape", [[2, 3, 4]], [ints(0, -1)])
    yield "Slice", single("Slice", [[5, 6]], [ints(1, -1), ints(100, -100), ints(0, 1), ints(1, -2)])
    yield "Pad", single("Pad", [[2, 3]], [ints(0, 1, 2, 0)], mode="reflect")
    yield "Expand", single("Expand", [[3, 1]], [ints(2, 1, 6)])
    yield "Tile", single("Tile", [[2, 3]], [ints(2, 2)])
    yield "Gather", single("Gather", [[4, 3]], [ints(0, -1)], axis=0)
    yield "GatherElements", single("GatherElements", [[2, 2]], [ints(0, 1, 1, 0).reshape(2, 2)], axis=1)
    yield "GatherND", single("GatherND", [[2, 2]], [ints(0, 1, 1, 0).reshape(2, 2)])
    yield "ScatterND", single("ScatterND", [[4, 2]], [ints(1, 3).reshape(2, 1), floats(2, 2)], reduction="add")
    yield "ScatterElements", single("ScatterElements", [[3, 2]], [ints(1, 0).reshape(1, 2), floats(1, 2)])
    yield "OneHot", single("OneHot", [[3]], [ints(4), floats(2)])
    yield "TopK", single("TopK", [[2, 5]], [ints(3)], outputs=("y", "i"))
    yield "CumSum", single("CumSum", [[2, 3]], [ints(1)], reverse=1)
    yield "ReduceSum", single("ReduceSum", [[2, 3]], [ints(1)], keepdims=0)
    yield "ReduceMean", single("ReduceMean", [[2, 3, 2]], [ints(-1, 0)])
    yield "ArgMax", single("ArgMax", [[2, 3]], axis=1, keepdims=0)
    yield "Einsum", single("Einsum", [[2, 3], [3, 4]], equation="ij,jk->ik")
    yield "Split", single("Split", [[6, 2]], [ints(2, 4)], outputs=("y", "z"))
    yield "DepthToSpace", single("DepthToSpace", [[1, 8, 2, 2]], blocksize=2, mode="CRD")
    yield "Unsqueeze", single("Unsqueeze", [[2, 3]], [ints(0, -1)])
    yield "ReverseSequence", single("ReverseSequence", [[4, 2]], [ints(4, 2)])
    yield "Range", model([helper.make_node("Range", ["a", "b", "c"], ["y"])], [],
                         [("a", np.float32(1)), ("b", np.float32(9)), ("c", np.float32(2))])
    yield "NonZero", model([helper.make_node("NonZero", ["a"], ["y"])], [], [("a", floats(2, 2))])
    yield "Trilu", single("Trilu", [[3, 3]], [np.array(1, np.int64)], upper=0)
    for op, gates in [("LSTM", 4), ("GRU", 3), ("RNN", 1)]:
        yield op, single(op, [[3, 2, 2], [1, gates * 3, 2], [1, gates * 3, 3]], hidden_size=3, outputs=("", "y"))
    yield "Attention", single("Attention", [[1, 2, 3, 4], [1, 2, 5, 4], [1, 2, 5, 4]], is_causal=1)
    yield "SoftmaxCrossEntropyLoss", single("SoftmaxCrossEntropyLoss", [[3, 5]], [ints(0, 2, 4)], reduction="mean")
    yield "DFT", single("DFT", [[1, 4, 1]], [np.array(4, np.int64), np.array(1, np.int64)])
    yield "Col2Im", single("Col2Im", [[1, 4, 4]], [ints(3, 3), ints(2, 2)])
    yield "CenterCropPad", single("CenterCropPad", [[5, 2]], [ints(3, 3)])
    body = helper.make_graph([helper.make_node("Add", ["v", "x0"], ["w"]), helper.make_node("Identity", ["g"], ["h"])],
                             "body", [helper.make_tensor_value_info("i", I, []), helper.make_tensor_value_info("g", B, []),
                                      helper.make_tensor_value_info("v", F, [2])],
                             [helper.make_tensor_value_info("h", B, []), helper.make_tensor_value_info("w", F, [2])])
    loop = helper.make_node("Loop", ["n", "t", "x0"], ["y"], body=body)
    yield "Loop", model([loop], [("x0", F, [2])], [("n", np.array(3, np.int64)), ("t", np.array(True))])
    then = helper.make_graph([helper.make_node("Neg", ["x0"], ["a"])], "t", [],
                             [helper.make_tensor_value_info("a", F, [2])])
    yield "If", model([helper.make_node("If", ["t"], ["y"], then_branch=then, else_branch=then)], [("x0", F, [2])],
                      [("t", np.array(True))])
    step = helper.make_graph([helper.make_node("Add", ["s", "e"], ["u"]), helper.make_node("Identity", ["u"], ["o"])],
                             "s", [helper.make_tensor_value_info("s", F, [2]), helper.make_tensor_value_info("e", F, [2])],
                             [helper.make_tensor_value_info("u", F, [2]), helper.make_tensor_value_info("o", F, [2])])
    yield "Scan", model([helper.make_node("Scan", ["x0", "x1"], ["f", "y"], body=step, num_scan_inputs=1)],
                        [("x0", F, [2]), ("x1", F, [3, 2])])
    function = helper.make_function("own", "twice", ["a"], ["b"], [helper.make_node("Add", ["a", "a"], ["b"])],
                                    [helper.make_opsetid("", 20)])
    yield "function", model([helper.make_node("twice", ["x0"], ["y"], domain="own")], [("x0", F, [2])],
                            functions=[function])
    external = numpy_helper.from_array(floats(2), "w")
    external.ClearField("raw_data")
    external.data_location = TensorProto.EXTERNAL
    for key, value in [("location", "../../etc/passwd"), ("offset", "-1"), ("length", "1125899906842624")]:
        entry = external.external_data.add()
        entry.key, entry.value = key, value
    graph = helper.make_graph([helper.make_node("Neg", ["w"], ["y"])], "g", [],
                              [helper.make_tensor_value_info("y", F, [2])], initializer=[external])
    yield "external", helper.make_model(graph).SerializeToString()


def tensors():
    for kind in ["float32", "float64", "int32", "int64", "bool"]:
        yield kind, numpy_helper.from_array(np.ones((2, 3), dtype=kind), "t").SerializeToString()
        listed = helper.make_tensor("t", helper.np_dtype_to_tensor_dtype(np.dtype(kind)), [2], [1, 0])
        yield f"{kind}-list", listed.SerializeToString()


def images():
    for mode in ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"]:
        picture = Image.new(mode, (5, 3), 1)
        content = io.BytesIO()
        picture.save(content, "png")
        yield f"{mode.replace(';', '')}.png", content.getvalue()
    for mode, more in [("L", {}), ("RGB", {}), ("RGB", {"progressive": True}), ("CMYK", {}), ("RGB", {"subsampling": 2})]:
        picture = Image.effect_noise((17, 9), 50).convert(mode)
        content = io.BytesIO()
        picture.save(content, "jpeg", quality=30, **more)
        yield f"{mode}{''.join(map(str, more))}.jpg", content.getvalue()


for name, content in onnx_seeds():
    put("onnx", name, content)
for name, content in tensors():
    put("onnx_tensor", name, content)
for name, content in images():
    put("image", name, content)

line = b'{"step":1,"loss":5.5,"val_loss":2.25,"accuracy":0.5,"lr":0.001,"tokens_s":1234.5,"grad_norm":null,"elapsed_s":0.25}\n'
small = save({"w": floats(2, 2), "b": np.array([1, 0, 1], dtype=np.uint8), "h": np.ones(2, np.float16)}, {"format": "pt"})
put("safetensors", "three", small)
put("safetensors", "none", save({}))
put("safetensors", "scalar-and-empty", save({"s": np.float32(1).reshape(()), "e": floats(0, 4)}))
put("safetensors", "pickle", b"\x80\x02}q\x00.")
put("safetensors", "zip", b"PK\x03\x04\x00\x00\x08\x08")
manifest = {"format": 1, "engine": "0.1.0", "step": 7,
            "files": [{"name": "state-00001-of-00001.safetensors", "bytes": "@B@", "crc32c": "@C@"}],
            "metadata": {"step": "7", "config": "task = 'text'"}}
text = json.dumps(manifest, indent=2).replace('"@B@"', "@BYTES@").replace('"@C@"', "@CRC@")
put("checkpoint", "whole", text[:-2].encode() + b"\x00" + small)
two = text.replace("],", ', {"name": "../x", "bytes": 1, "crc32c": 1}],')
put("checkpoint", "elsewhere", two[:-2].encode() + b"\x00" + small)
put("checkpoint", "cut", text[:-30].encode() + b"\x00" + small)
put("checkpoint", "two", text.replace("],", ', {"name": "b", "bytes": @BYTES@, "crc32c": @CRC@}],')[:-2].encode() + b"\x00" + small)
put("checkpoint", "future", text.replace('"format": 1', '"format": 2')[:-2].encode() + b"\x00" + small)
put("metrics", "spoilt", line + b"nonsense\n" + line)
put("config", "text", b'task = "text"\n[model]\nlayers = 2\nheads = 2\nwidth = 32\n[train]\nlr = 3e-4\nsteps = 10\nclip = 1.0\n')
put("config", "digits", b"task = 'digits'\n[augment]\nshift = 0.1\nflip = 0.5\n[train]\nbatch = 32\naccumulate = 2\n")
put("config", "images", b'task = "images"\ndata.path = "a"\nmodel = { kind = "resnet18" }\ndevice = { adapter = "0", timeout = 3 }\n')
put("config", "utf16", "[train]\nlr = 1\n".encode("utf-16"))
put("text", "english", b"\x08\x02the quick brown fox jumps over the lazy dog, again and again and again\n" * 2)
put("text", "latin1", b"\x02\x03" + "größer als nichts".encode("latin-1"))
put("text", "utf16", b"\x01\x01" + "größer".encode("utf-16"))
put("text", "zeros", b"\x10\x0f" + bytes(64))
put("metrics", "two", line + line.replace(b'"step":1', b'"step":2'))
put("metrics", "torn", line + line[:40])
put("metrics", "zeros", line + bytes(30))
table = {"format": 1, "adapters": {"a GPU | Vulkan | driver 1.2": {"a product": "Direct", "another": "No such kernel"}}}
put("choices", "two", json.dumps(table).encode())
put("choices", "none", b'{"format":1,"adapters":{}}')
put("choices", "future", b'{"format":2,"adapters":{"a":{}}}')
