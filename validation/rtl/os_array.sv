// Output-stationary systolic array: R x C processing elements, each the owner of one output of a fold.
//
// Activations enter on the left and move right, weights enter on top and move down; row r and column c are delayed by r
// and c cycles on their way in, so the caller hands over plain vectors, one reduction step a cycle. Results leave at the
// bottom, the last row first, on a chain that moves the column down one row a cycle.
//
// DOUBLE = 0: the accumulators themselves are the chain. DOUBLE = 1: a register beside each accumulator is.
// GROUP = 1: dense. GROUP = 4: n:4 structured weights; the activation bus carries a group of four and each element picks
// one of them with the index that travels with the weight.

module os_element #(
    parameter int DOUBLE = 1,
    parameter int GROUP = 1
) (
    input logic clk,
    input logic rst,
    input logic valid,
    input logic first,
    input logic last,
    input logic move,
    input logic [8*GROUP-1:0] activation,
    input logic signed [7:0] weight,
    input logic [1:0] index,
    input logic signed [31:0] above,
    output logic next_valid,
    output logic next_first,
    output logic next_last,
    output logic next_move,
    output logic [8*GROUP-1:0] next_activation,
    output logic signed [7:0] next_weight,
    output logic [1:0] next_index,
    output logic signed [31:0] below
);
  logic signed [7:0] picked;
  logic signed [31:0] accumulator, updated;

  generate
    if (GROUP == 1) begin : g_dense
      assign picked = activation[7:0];
    end else begin : g_structured
      assign picked = activation[8*index+:8];
    end
  endgenerate
  assign updated = (first ? 32'sd0 : accumulator) + 32'(picked) * 32'(weight);

  always_ff @(posedge clk) begin
    next_valid <= valid & ~rst;
    next_first <= first;
    next_last <= last;
    next_move <= move & ~rst;
    next_activation <= activation;
    next_weight <= weight;
    next_index <= index;
  end

  generate
    if (DOUBLE != 0) begin : g_double
      logic signed [31:0] leaving;
      always_ff @(posedge clk) begin
        if (valid) accumulator <= updated;
        if (valid && last) leaving <= updated;
        else if (move) leaving <= above;
      end
      assign below = leaving;
    end else begin : g_single
      always_ff @(posedge clk) begin
        if (valid) accumulator <= updated;
        else if (move) accumulator <= above;
      end
      assign below = accumulator;
    end
  endgenerate
endmodule

module os_array #(
    parameter int R = 4,
    parameter int C = 4,
    parameter int DOUBLE = 1,
    parameter int GROUP = 1
) (
    input logic clk,
    input logic rst,
    input logic in_valid,
    input logic in_first,
    input logic in_last,
    input logic [8*GROUP-1:0] left[R],
    input logic [7:0] top[C],
    input logic [1:0] top_index[C],
    output logic out_valid[C],
    output logic [31:0] out[C]
);
  localparam int COUNT_BITS = $clog2(R + 1);

  logic valid[R][C+1], first[R][C+1], last[R][C+1], move[R][C+1];
  logic [8*GROUP-1:0] activation[R][C+1];
  logic signed [7:0] weight[R+1][C];
  logic [1:0] index[R+1][C];
  logic signed [31:0] column[R+1][C];

  for (genvar r = 0; r < R; r++) begin : g_row_edge
    // The delay of row r, and the order to move its column down: R cycles after a row's last step the whole column is
    // finished and row r has r results of the rows above to let pass.
    logic [8*GROUP+2:0] line[r+1];
    assign line[0] = {left[r], in_valid, in_first, in_last};
    for (genvar i = 0; i < r; i++) begin : g_delay
      always_ff @(posedge clk) line[i+1] <= rst ? '0 : line[i];
    end
    assign {activation[r][0], valid[r][0], first[r][0], last[r][0]} = line[r];

    logic [COUNT_BITS-1:0] left_to_wait;
    always_ff @(posedge clk) begin
      if (rst) left_to_wait <= '0;
      else if (valid[r][0] && last[r][0]) left_to_wait <= COUNT_BITS'(R - 1);
      else if (left_to_wait != 0) left_to_wait <= left_to_wait - 1;
    end
    assign move[r][0] = left_to_wait != 0 && int'(left_to_wait) <= r;
  end

  for (genvar c = 0; c < C; c++) begin : g_column_edge
    logic [9:0] line[c+1];
    assign line[0] = {top[c], top_index[c]};
    for (genvar i = 0; i < c; i++) begin : g_delay
      always_ff @(posedge clk) line[i+1] <= line[i];
    end
    assign {weight[0][c], index[0][c]} = line[c];
    assign column[0][c] = '0;

    logic [COUNT_BITS-1:0] left_to_show;
    always_ff @(posedge clk) begin
      if (rst) left_to_show <= '0;
      else if (valid[R-1][c] && last[R-1][c]) left_to_show <= COUNT_BITS'(R);
      else if (left_to_show != 0) left_to_show <= left_to_show - 1;
    end
    assign out_valid[c] = left_to_show != 0;
    assign out[c] = column[R][c];
  end

  for (genvar r = 0; r < R; r++) begin : g_row
    for (genvar c = 0; c < C; c++) begin : g_element
      os_element #(
          .DOUBLE(DOUBLE),
          .GROUP(GROUP)
      ) element (
          .clk,
          .rst,
          .valid(valid[r][c]),
          .first(first[r][c]),
          .last(last[r][c]),
          .move(move[r][c]),
          .activation(activation[r][c]),
          .weight(weight[r][c]),
          .index(index[r][c]),
          .above(column[r][c]),
          .next_valid(valid[r][c+1]),
          .next_first(first[r][c+1]),
          .next_last(last[r][c+1]),
          .next_move(move[r][c+1]),
          .next_activation(activation[r][c+1]),
          .next_weight(weight[r+1][c]),
          .next_index(index[r+1][c]),
          .below(column[r+1][c])
      );
    end
  end
endmodule
