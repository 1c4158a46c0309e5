// Input lanes with private accumulators: P lanes, each the owner of one input feature, walk tiles of T output features.
//
// A lane scatters weight x activation into a bank of T accumulators of its own, so no two lanes ever meet. Lanes behind a
// queue of `limit` tiles may be on different tiles: every lane uses limit + 1 banks, P * T * (limit + 1) accumulators in
// all. When the last lane is done with a tile, its P banks run through T adder trees, one register a level, one tile a
// cycle. A bank is cleared by the first cycle of the next tile that uses it, which is never before its sums were read.

module zero_skip_input #(
    parameter int P = 4,
    parameter int T = 16,
    parameter int FIFO = 0
) (
    input logic clk,
    input logic rst,
    input logic [7:0] limit,
    input logic in_valid,
    input logic [T-1:0] in_stored[P],
    input logic [8*T-1:0] in_weights[P],
    input logic [7:0] in_activation[P],
    output logic in_ready,
    output logic idle,
    output logic out_valid,
    output logic [31:0] out[T]
);
  localparam int SLOTS = FIFO + 1;
  localparam int SLOT_BITS = $clog2(FIFO + 2);
  localparam int LEVELS = $clog2(P);

  logic [P-1:0] lane_ready, lane_idle, lane_finish;
  logic [SLOT_BITS-1:0] lane_slot[P];
  logic push;
  assign in_ready = &lane_ready;
  assign idle = &lane_idle;
  assign push = in_valid && in_ready;

  logic [SLOT_BITS-1:0] slot, reducing;
  logic [P-1:0] done[SLOTS];
  logic reduce;
  assign reduce = &done[reducing];
  always_ff @(posedge clk) begin
    if (rst) begin
      slot <= '0;
      reducing <= '0;
      for (int s = 0; s < SLOTS; s++) done[s] <= '0;
    end else begin
      if (push) slot <= 8'(slot) == limit ? '0 : slot + 1;
      if (reduce) begin
        reducing <= 8'(reducing) == limit ? '0 : reducing + 1;
        done[reducing] <= '0;
      end
      for (int p = 0; p < P; p++) if (lane_finish[p]) done[lane_slot[p]][p] <= 1'b1;
    end
  end

  logic signed [31:0] partial[P][T];
  for (genvar p = 0; p < P; p++) begin : g_lane
    logic take, active;
    logic [$clog2(T)-1:0] position;
    logic signed [7:0] weight;
    zero_skip_lane #(
        .T(T),
        .FIFO(FIFO),
        .SLOT_BITS(SLOT_BITS)
    ) lane (
        .clk,
        .rst,
        .depth(limit),
        .push,
        .wanted(in_stored[p]),
        .stored(in_stored[p]),
        .weights(in_weights[p]),
        .slot,
        .grant(1'b1),
        .ready(lane_ready[p]),
        .idle(lane_idle[p]),
        .take,
        .finish(lane_finish[p]),
        .active,
        .position,
        .weight,
        .current_slot(lane_slot[p])
    );

    logic signed [31:0] product;
    logic signed [31:0] bank[SLOTS][T];
    assign product = 32'(weight) * 32'($signed(in_activation[p]));
    always_ff @(posedge clk) begin
      if (take) for (int i = 0; i < T; i++) bank[lane_slot[p]][i] <= '0;
      if (active) bank[lane_slot[p]][position] <= (take ? 32'sd0 : bank[lane_slot[p]][position]) + product;
    end
    assign partial[p] = bank[reducing];
  end

  // Level l holds P >> l sums an output.
  logic [LEVELS-1:0] filled;
  always_ff @(posedge clk) filled <= rst ? '0 : LEVELS'({filled, reduce});
  for (genvar i = 0; i < T; i++) begin : g_tree
    for (genvar l = 0; l <= LEVELS; l++) begin : g_level
      logic signed [31:0] sum[P>>l];
      if (l == 0) begin : g_leaves
        for (genvar p = 0; p < P; p++) begin : g_leaf
          assign sum[p] = partial[p][i];
        end
      end else begin : g_adders
        for (genvar p = 0; p < P >> l; p++) begin : g_adder
          always_ff @(posedge clk) sum[p] <= g_level[l-1].sum[2*p] + g_level[l-1].sum[2*p+1];
        end
      end
    end
    assign out[i] = g_level[LEVELS].sum[0];
  end
  assign out_valid = filled[LEVELS-1];
endmodule
