"""Small SystemVerilog arrays of our own, simulated with Verilator, against which the cycle equations are held."""
