"""Makes small_zip.pkl and small_legacy.pkl: one state with every dtype, views, and Adam's state, in either format.

python crates/mcan-data/tests/data/checkpoints/make.py   (PyTorch 2.11)
"""
import collections
import pathlib
import torch

folder = pathlib.Path(__file__).parent
base = torch.arange(12, dtype=torch.float32)
kinds = ["float32", "float64", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool"]
state_dict = collections.OrderedDict((kind, torch.arange(4).to(getattr(torch, kind))) for kind in kinds)
state_dict["view"] = base[2:8].view(2, 3)
state_dict["transposed"] = base.view(3, 4).t()
state_dict["every other"] = base[::2]
state_dict["expanded"] = base[3:4].expand(2, 3)
state_dict["empty"] = torch.zeros(0, 3)
state_dict["scalar"] = torch.tensor(2.5)
state_dict["parameter"] = torch.nn.Parameter(base[:2].clone())

weight = torch.nn.Parameter(base.view(3, 4).clone())
bias = torch.nn.Parameter(torch.ones(3))
adam = torch.optim.Adam([weight, bias], lr=1e-3, betas=(0.9, 0.98), eps=1e-9)
weight.sum().backward()
adam.step()
state = {"state_dict": state_dict, "optimizer": adam.state_dict(), "lr_base": 1e-3}
torch.save(state, folder / "small_zip.pkl")
torch.save(state, folder / "small_legacy.pkl", _use_new_zipfile_serialization=False)
torch.save(state, folder / "small_protocol4.pkl", pickle_protocol=4)
