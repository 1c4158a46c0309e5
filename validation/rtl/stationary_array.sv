// Systolic array with one stationary operand: R x C processing elements, rows are reduction steps.
//
// The stationary operand enters on top, the row that lands lowest first, and moves down one row a cycle; the moving
// operand enters on the left and moves right; partial sums move down and leave at the bottom behind a register. Row r
// and column c are delayed by r and c cycles on their way in, so the caller hands over plain vectors.
// Weight stationary: the weights stay and activations move. Input stationary: the activations stay and weights move.
//
// DOUBLE = 0: the register that multiplies is the one that loads. DOUBLE = 1: a second register loads meanwhile, and
// takes over with the first moving vector. In both, row r lets the first r of the R loading steps pass, so the old
// content of a row lives until the new content reaches it.
// GROUP = 1: dense. GROUP = 4: n:4 structured stationary operand; the moving bus carries a group of four and each
// element picks one of them with the index it holds.

module stationary_element #(
    parameter int DOUBLE = 1,
    parameter int GROUP = 1
) (
    input logic clk,
    input logic rst,
    input logic valid,
    input logic first,
    input logic load,
    input logic [8*GROUP-1:0] moving,
    input logic [9:0] from_above,
    input logic signed [31:0] sum_above,
    output logic next_valid,
    output logic next_first,
    output logic next_load,
    output logic [8*GROUP-1:0] next_moving,
    output logic [9:0] to_below,
    output logic signed [31:0] sum_below
);
  logic [9:0] held;
  logic signed [7:0] kept, picked;
  logic [1:0] index;

  assign kept  = held[9:2];
  assign index = held[1:0];
  generate
    if (GROUP == 1) begin : g_dense
      logic unused;
      assign unused = ^index;
      assign picked = moving[7:0];
    end else begin : g_structured
      assign picked = moving[8*index+:8];
    end
    if (DOUBLE != 0) begin : g_double
      logic [9:0] loading, active;
      always_ff @(posedge clk) begin
        if (load) loading <= from_above;
        if (valid && first) active <= loading;
      end
      assign held = first ? loading : active;
      assign to_below = loading;
    end else begin : g_single
      logic [9:0] only;
      always_ff @(posedge clk) if (load) only <= from_above;
      assign held = only;
      assign to_below = only;
    end
  endgenerate

  always_ff @(posedge clk) begin
    next_valid <= valid & ~rst;
    next_first <= first;
    next_load <= load & ~rst;
    next_moving <= moving;
    sum_below <= sum_above + 32'(picked) * 32'(kept);
  end
endmodule

module stationary_array #(
    parameter int R = 4,
    parameter int C = 4,
    parameter int DOUBLE = 1,
    parameter int GROUP = 1
) (
    input logic clk,
    input logic rst,
    input logic in_valid,
    input logic in_first,
    input logic in_load,
    input logic [8*GROUP-1:0] left[R],
    input logic [7:0] top[C],
    input logic [1:0] top_index[C],
    output logic out_valid[C],
    output logic [31:0] out[C]
);
  localparam int COUNT_BITS = $clog2(R + 1);

  logic valid[R][C+1], first[R][C+1], load[R][C+1];
  logic [8*GROUP-1:0] moving[R][C+1];
  logic [9:0] stationary[R+1][C];
  logic signed [31:0] sum[R+1][C];

  logic [COUNT_BITS-1:0] step;
  always_ff @(posedge clk) begin
    if (rst) step <= '0;
    else if (in_load) step <= int'(step) == R - 1 ? '0 : step + 1;
  end

  for (genvar r = 0; r < R; r++) begin : g_row_edge
    logic [8*GROUP+1:0] line[r+1];
    assign line[0] = {left[r], in_valid, in_first};
    for (genvar i = 0; i < r; i++) begin : g_delay
      always_ff @(posedge clk) line[i+1] <= rst ? '0 : line[i];
    end
    assign {moving[r][0], valid[r][0], first[r][0]} = line[r];
    assign load[r][0] = in_load && int'(step) >= r;
  end

  for (genvar c = 0; c < C; c++) begin : g_column_edge
    logic [9:0] line[c+1];
    assign line[0] = {top[c], top_index[c]};
    for (genvar i = 0; i < c; i++) begin : g_delay
      always_ff @(posedge clk) line[i+1] <= line[i];
    end
    assign stationary[0][c] = line[c];
    assign sum[0][c] = '0;
    assign out_valid[c] = valid[R-1][c+1];
    assign out[c] = sum[R][c];
  end

  for (genvar r = 0; r < R; r++) begin : g_row
    for (genvar c = 0; c < C; c++) begin : g_element
      stationary_element #(
          .DOUBLE(DOUBLE),
          .GROUP(GROUP)
      ) element (
          .clk,
          .rst,
          .valid(valid[r][c]),
          .first(first[r][c]),
          .load(load[r][c]),
          .moving(moving[r][c]),
          .from_above(stationary[r][c]),
          .sum_above(sum[r][c]),
          .next_valid(valid[r][c+1]),
          .next_first(first[r][c+1]),
          .next_load(load[r][c+1]),
          .next_moving(moving[r][c+1]),
          .to_below(stationary[r+1][c]),
          .sum_below(sum[r+1][c])
      );
    end
  end
endmodule
