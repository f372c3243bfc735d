"""Takes a trained network away: into plain fast-reid, ONNX, TorchScript or torch.export."""

FORMATS = ("fastreid", "onnx", "torchscript", "torch-export")
"""The names of the formats, each with a function in `writing.WRITERS`."""
