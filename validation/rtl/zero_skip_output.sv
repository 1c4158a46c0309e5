// Output lanes: P lanes, each the owner of one output feature with V accumulators, share a broadcast activation tile.
//
// A lane works where its weight and the shared activation are both stored. V activation vectors share one weight, so
// with V > 1 the activation bitmap is the union of theirs. Lanes in front of a queue of `limit` tiles may be on different tiles: the
// activations of the limit + 1 latest tiles are kept in a ring.

module zero_skip_output #(
    parameter int P = 4,
    parameter int T = 16,
    parameter int FIFO = 0,
    parameter int V = 1
) (
    input logic clk,
    input logic rst,
    input logic [7:0] limit,
    input logic in_valid,
    input logic [T-1:0] in_stored[P],
    input logic [8*T-1:0] in_weights[P],
    input logic [T-1:0] in_activation_mask,
    input logic [8*T-1:0] in_activations[V],
    output logic in_ready,
    output logic idle,
    output logic [31:0] out[P][V]
);
  localparam int SLOT_BITS = $clog2(FIFO + 2);

  logic [P-1:0] lane_ready, lane_idle;
  logic push;
  assign in_ready = &lane_ready;
  assign idle = &lane_idle;
  assign push = in_valid && in_ready;

  logic [SLOT_BITS-1:0] slot;
  logic [8*T-1:0] ring[FIFO+1][V];
  always_ff @(posedge clk) begin
    if (rst) slot <= '0;
    else if (push) slot <= 8'(slot) == limit ? '0 : slot + 1;
    if (push) ring[slot] <= in_activations;
  end

  for (genvar p = 0; p < P; p++) begin : g_lane
    logic take, active, finish;
    logic [$clog2(T)-1:0] position;
    logic signed [7:0] weight;
    logic [SLOT_BITS-1:0] current;
    zero_skip_lane #(
        .T(T),
        .FIFO(FIFO),
        .SLOT_BITS(SLOT_BITS)
    ) lane (
        .clk,
        .rst,
        .depth(limit),
        .push,
        .wanted(in_stored[p] & in_activation_mask),
        .stored(in_stored[p]),
        .weights(in_weights[p]),
        .slot,
        .grant(1'b1),
        .ready(lane_ready[p]),
        .idle(lane_idle[p]),
        .take,
        .finish,
        .active,
        .position,
        .weight,
        .current_slot(current)
    );
    logic unused;
    assign unused = finish ^ take;

    for (genvar v = 0; v < V; v++) begin : g_vector
      logic signed [7:0] activation;
      logic signed [31:0] accumulator;
      if (FIFO == 0) begin : g_port
        assign activation = take ? in_activations[v][8*position+:8] : ring[current][v][8*position+:8];
      end else begin : g_ring
        assign activation = ring[current][v][8*position+:8];
      end
      always_ff @(posedge clk) begin
        if (rst) accumulator <= '0;
        else if (active) accumulator <= accumulator + 32'(weight) * 32'(activation);
      end
      assign out[p][v] = accumulator;
    end
  end
endmodule
