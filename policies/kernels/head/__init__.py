"""The conv head from bytes to features on the CPU, one frame at a time; `perception.ConvHead` is the reference."""
