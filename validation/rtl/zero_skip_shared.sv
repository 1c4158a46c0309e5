// Input lanes with shared accumulators: P lanes, each the owner of one input feature, scatter into T accumulators.
//
// An accumulator adds up to `limit` <= P products a cycle (a crossbar and as many adders each); among more lanes that want
// the same one, the lowest win and the others try again. A limit of P never makes a lane wait. TURN = 1 lets lane p begin
// its search at position p * T / P, so that dense lanes do not all start at the same accumulator. All lanes meet after
// every tile.

module zero_skip_shared #(
    parameter int P = 4,
    parameter int T = 16,
    parameter int TURN = 0
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
  logic [P-1:0] lane_ready, lane_idle, active, grant;
  logic [$clog2(T)-1:0] position[P];
  logic signed [31:0] product[P];
  logic push;
  assign in_ready = &lane_ready;
  assign idle = &lane_idle;
  assign push = in_valid && in_ready;

  always_comb begin
    for (int p = 0; p < P; p++) begin
      int rivals;
      rivals = 0;
      for (int q = 0; q < p; q++) if (active[q] && position[q] == position[p]) rivals += 1;
      grant[p] = rivals < int'(limit);
    end
  end

  for (genvar p = 0; p < P; p++) begin : g_lane
    logic take, finish, slot;
    logic signed [7:0] weight;
    zero_skip_lane #(
        .T(T),
        .FIFO(0),
        .SLOT_BITS(1),
        .START(TURN != 0 ? p * T / P : 0)
    ) lane (
        .clk,
        .rst,
        .depth('0),
        .push,
        .wanted(in_stored[p]),
        .stored(in_stored[p]),
        .weights(in_weights[p]),
        .slot(1'b0),
        .grant(grant[p]),
        .ready(lane_ready[p]),
        .idle(lane_idle[p]),
        .take,
        .finish,
        .active(active[p]),
        .position(position[p]),
        .weight,
        .current_slot(slot)
    );
    logic unused;
    assign unused = take ^ finish ^ slot;
    assign product[p] = 32'(weight) * 32'($signed(in_activation[p]));
  end

  logic signed [31:0] accumulator[T];
  logic started;
  for (genvar i = 0; i < T; i++) begin : g_accumulator
    logic signed [31:0] added;
    always_comb begin
      added = push ? 32'sd0 : accumulator[i];
      for (int p = 0; p < P; p++) if (active[p] && grant[p] && int'(position[p]) == i) added += product[p];
    end
    always_ff @(posedge clk) accumulator[i] <= added;
    assign out[i] = accumulator[i];
  end
  always_ff @(posedge clk) begin
    if (rst) started <= 1'b0;
    else started <= push || (started && !in_ready);
  end
  assign out_valid = started && in_ready;
endmodule
