// onnxruntime 1.30 sends usage data to its maker unless told not to. A model server of a trading desk tells nobody
// anything.
process.env["ORT_DISABLE_TELEMETRY"] = "1";
