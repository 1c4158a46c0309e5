// One zero-skipping lane: a priority encoder over the bitmap of a tile, one wanted position a cycle.
//
// A tile is T positions: a bitmap of those that are wanted, a bitmap of those whose weight is stored, and the stored
// weights packed together. A lane that starts on a tile works on its first position in that same cycle, and an empty
// tile takes one cycle. FIFO = 0: the tile on the port is taken straight away, and the caller holds all lanes together.
// FIFO > 0: tiles wait in a queue of `depth` <= FIFO entries, and every lane takes the next when it is done.
// START turns the search order: positions from START upwards first. A product that is not granted is tried again.

module zero_skip_lane #(
    parameter int T = 16,
    parameter int FIFO = 0,
    parameter int SLOT_BITS = 4,
    parameter int START = 0
) (
    input logic clk,
    input logic rst,
    input logic [7:0] depth,
    input logic push,
    input logic [T-1:0] wanted,
    input logic [T-1:0] stored,
    input logic [8*T-1:0] weights,
    input logic [SLOT_BITS-1:0] slot,
    input logic grant,
    output logic ready,
    output logic idle,
    output logic take,
    output logic finish,
    output logic active,
    output logic [$clog2(T)-1:0] position,
    output logic signed [7:0] weight,
    output logic [SLOT_BITS-1:0] current_slot
);
  localparam int ENTRY = 10 * T + SLOT_BITS;

  logic [ENTRY-1:0] arriving, head;
  logic head_valid, free;
  assign arriving = {wanted, stored, weights, slot};

  logic [T-1:0] rest;
  assign free = rest == '0;
  assign take = free && head_valid;

  generate
    if (FIFO == 0) begin : g_direct
      assign head = arriving;
      assign head_valid = push;
      assign ready = free;
      assign idle = free;
      logic unused;
      assign unused = ^depth;
    end else begin : g_queue
      localparam int AT_BITS = FIFO > 1 ? $clog2(FIFO) : 1;
      logic [ENTRY-1:0] queue[FIFO];
      logic [AT_BITS-1:0] read_at, write_at;
      logic [7:0] waiting;
      always_ff @(posedge clk) begin
        if (push) queue[write_at] <= arriving;
        if (rst) begin
          read_at  <= '0;
          write_at <= '0;
          waiting  <= '0;
        end else begin
          if (push) write_at <= int'(write_at) == FIFO - 1 ? '0 : write_at + 1;
          if (take) read_at <= int'(read_at) == FIFO - 1 ? '0 : read_at + 1;
          waiting <= waiting + 8'(push) - 8'(take);
        end
      end
      assign head = queue[read_at];
      assign head_valid = waiting != 0;
      assign ready = waiting < depth;
      assign idle = free && !head_valid;
    end
  endgenerate

  logic [T-1:0] held_stored, now, now_stored, ahead, pick, left;
  logic [8*T-1:0] held_weights, now_weights;
  logic [SLOT_BITS-1:0] held_slot;
  always_comb begin
    now = rest;
    now_stored = held_stored;
    now_weights = held_weights;
    current_slot = held_slot;
    if (take) {now, now_stored, now_weights, current_slot} = head;
  end
  assign ahead = now & ({T{1'b1}} << START);
  assign pick = ahead != '0 ? ahead & (~ahead + 1'b1) : now & (~now + 1'b1);
  assign left = now & ~pick;
  assign active = now != '0;
  assign finish = (take || !free) && left == '0 && (grant || !active);

  // The packed weights hold one byte for each stored position before this one.
  logic [$clog2(T)-1:0] rank;
  always_comb begin
    position = '0;
    for (int i = 0; i < T; i++) if (pick[i]) position = ($clog2(T))'(i);
    rank = '0;
    for (int i = 0; i < T; i++) if (i < int'(position)) rank = rank + ($clog2(T))'(now_stored[i]);
  end
  assign weight = now_weights[8*rank+:8];

  always_ff @(posedge clk) begin
    if (rst) rest <= '0;
    else rest <= grant ? left : now;
    held_stored  <= now_stored;
    held_weights <= now_weights;
    held_slot <= current_slot;
  end
endmodule
