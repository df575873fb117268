
`ifndef SYNTHESIS
// What rtl/kit/cascade.py uses of AMD's DSP48E2 (UG579), for simulators: registers behind product and sum alone,
// P = A * B + Z + W where Z is 0 or PCIN, and W is 0, P or C. Anything else is unknown.
/* verilator lint_off UNUSED */
module DSP48E2 #(
  parameter ACASCREG = 1, parameter ADREG = 1, parameter ALUMODEREG = 1, parameter AREG = 1, parameter BCASCREG = 1,
  parameter BREG = 1, parameter CARRYINREG = 1, parameter CARRYINSELREG = 1, parameter CREG = 1, parameter DREG = 1,
  parameter INMODEREG = 1, parameter OPMODEREG = 1
) (
  input CLK, input [29:0] A, input [17:0] B, input [47:0] C, input [26:0] D, input [29:0] ACIN, input [17:0] BCIN,
  input [47:0] PCIN, input [8:0] OPMODE, input [3:0] ALUMODE, input [4:0] INMODE, input [2:0] CARRYINSEL,
  input CARRYIN, input CARRYCASCIN, input MULTSIGNIN, input CEA1, input CEA2, input CEAD, input CEALUMODE, input CEB1,
  input CEB2, input CEC, input CECARRYIN, input CECTRL, input CED, input CEINMODE, input CEM, input CEP, input RSTA,
  input RSTALLCARRYIN, input RSTALUMODE, input RSTB, input RSTC, input RSTCTRL, input RSTD, input RSTINMODE, input RSTM,
  input RSTP, output [47:0] P, output [47:0] PCOUT
);
  localparam REGISTERS = ACASCREG + ADREG + ALUMODEREG + AREG + BCASCREG + BREG + CARRYINREG + CARRYINSELREG + CREG + DREG
    + INMODEREG + OPMODEREG;
  wire known = REGISTERS == 0 && OPMODE[3:0] == 4'b0101 && (OPMODE[6:4] == 3'b000 || OPMODE[6:4] == 3'b001)
    && OPMODE[8:7] != 2'b10 && ALUMODE == 0 && INMODE == 0 && CARRYINSEL == 0 && !CARRYIN && !RSTM && !RSTP;
  wire signed [26:0] a = A[26:0];
  wire signed [17:0] b = B;
  reg signed [44:0] m = 0;
  reg [47:0] p = 0;
  wire [47:0] z = OPMODE[4] ? PCIN : 48'd0;
  wire [47:0] w = !OPMODE[7] ? 48'd0 : OPMODE[8] ? C : p;
  always @(posedge CLK) begin
    if (CEM) m <= a * b;
    if (CEP) p <= known ? {{3{m[44]}}, m} + z + w : {48{1'bx}};
  end
  assign P = p;
  assign PCOUT = p;
endmodule
/* verilator lint_on UNUSED */
`endif
