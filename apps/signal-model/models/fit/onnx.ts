import protobuf from "protobufjs";

// The part of ONNX's protocol that our graphs need (field numbers of onnx.proto3, IR version 8).
const { root } = protobuf.parse(
  `
syntax = "proto3";
message Model { int64 ir_version = 1; string producer_name = 2; Graph graph = 7; repeated Opset opset_import = 8; }
message Opset { string domain = 1; int64 version = 2; }
message Graph { repeated Node node = 1; string name = 2; repeated Tensor initializer = 5; repeated Value input = 11; repeated Value output = 12; }
message Node { repeated string input = 1; repeated string output = 2; string name = 3; string op_type = 4; repeated Attribute attribute = 5; }
message Attribute { string name = 1; int64 i = 3; repeated int64 ints = 8; int32 type = 20; }
message Tensor { repeated int64 dims = 1; int32 data_type = 2; string name = 8; bytes raw_data = 9; }
message Value { string name = 1; Type type = 2; }
message Type { TensorType tensor_type = 1; }
message TensorType { int32 elem_type = 1; Shape shape = 2; }
message Shape { repeated Dim dim = 1; }
message Dim { oneof value { int64 dim_value = 1; string dim_param = 2; } }
`,
  { keepCase: true },
);

const FLOAT = 1;
const INT64 = 7;
const ATTRIBUTE_INT = 2;
const OPSET = 17;
const IR_VERSION = 8;

interface Node {
  readonly input: readonly string[];
  readonly output: readonly string[];
  readonly name: string;
  readonly op_type: string;
  readonly attribute: readonly object[];
}

/** Builds an ONNX graph: each call adds a node or a constant and returns the name of its result. */
export class GraphBuilder {
  readonly #nodes: Node[] = [];
  readonly #initializers: object[] = [];

  constant(name: string, dims: readonly number[], values: readonly number[]): string {
    this.#initializers.push({ name, dims, data_type: FLOAT, raw_data: bytes(Float32Array.from(values)) });
    return name;
  }

  op(
    type: string,
    inputs: readonly string[],
    output: string,
    ints: Readonly<Record<string, number>> = {},
  ): string {
    const attribute = Object.entries(ints).map(([name, i]) => ({ name, i, type: ATTRIBUTE_INT }));
    this.#nodes.push({ input: inputs, output: [output], name: output, op_type: type, attribute });
    return output;
  }

  /** [batch, 1] → [batch] */
  squeeze(input: string, output: string): string {
    const axis = `${output}_axis`;
    this.#initializers.push({
      name: axis,
      dims: [1],
      data_type: INT64,
      raw_data: bytes(BigInt64Array.from([1n])),
    });
    return this.op("Squeeze", [input, axis], output);
  }

  /** The model's bytes; equal calls give equal bytes. */
  encode(name: string, input: string, width: number, outputs: readonly string[]): Uint8Array {
    const batch = { dim_param: "batch" };
    const value = (of: string, dim: readonly object[]) => ({
      name: of,
      type: { tensor_type: { elem_type: FLOAT, shape: { dim } } },
    });
    const model = {
      ir_version: IR_VERSION,
      producer_name: "baton",
      opset_import: [{ domain: "", version: OPSET }],
      graph: {
        name,
        node: this.#nodes,
        initializer: this.#initializers,
        input: [value(input, [batch, { dim_value: width }])],
        output: outputs.map((output) => value(output, [batch])),
      },
    };
    const type = root.lookupType("Model");
    const problem = type.verify(model);
    if (problem !== null) throw new Error(problem);
    return type.encode(type.fromObject(model)).finish();
  }
}

function bytes(values: Float32Array | BigInt64Array): Uint8Array {
  return new Uint8Array(values.buffer);
}
