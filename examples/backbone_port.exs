# backbone_port.exs — the frame model from Elixir, as a child process behind a port: a frame is a binary of little-endian
# 32-bit floats, and so is the vector that comes back before the next frame is asked for.
#
#     zamba backbone init --embed-dim 32 --hidden-size 64 -o agent
#     elixir backbone_port.exs agent
#
# From Nx: Nx.to_binary(tensor) is such a frame (type {:f, 32}), and Nx.from_binary(vector, {:f, 32}) takes the answer.
defmodule Zamba.Backbone do
  defstruct [:port, :frame_bytes, :vector_bytes]

  @doc "Start `zamba backbone stream MODEL`; `extra` are more of its options, such as [\"--weights\", \"bf16\"]."
  def open(model, frame_size, vector_size, extra \\ []) do
    program = System.find_executable("zamba") || raise "zamba is not in PATH"

    port =
      Port.open({:spawn_executable, program}, [
        :binary,
        :exit_status,
        :use_stdio,
        args: ["backbone", "stream", model | extra]
      ])

    %__MODULE__{port: port, frame_bytes: 4 * frame_size, vector_bytes: 4 * vector_size}
  end

  @doc "One frame, a list of numbers or a binary of float32; gives {:ok, vector} as a binary, or {:error, why}."
  def step(%__MODULE__{} = b, frame) when is_list(frame) do
    step(b, for(x <- frame, into: <<>>, do: <<x::float-little-32>>))
  end

  def step(%__MODULE__{frame_bytes: n} = b, frame) when is_binary(frame) and byte_size(frame) == n do
    Port.command(b.port, frame)
    receive_vector(b, <<>>)
  rescue
    ArgumentError -> receive_vector(b, <<>>) # the child has ended, and its code is in the mailbox
  end

  def step(%__MODULE__{frame_bytes: n}, frame) do
    {:error, "a frame of #{byte_size(frame)} bytes, wanted #{n}"}
  end

  @doc "The child ends when its input does."
  def close(%__MODULE__{port: port}), do: Port.close(port)

  def floats(vector), do: for(<<x::float-little-32 <- vector>>, do: x)

  # An answer may come in pieces.
  defp receive_vector(%__MODULE__{port: port, vector_bytes: n} = b, have) do
    receive do
      {^port, {:data, more}} when byte_size(have) + byte_size(more) < n -> receive_vector(b, have <> more)
      {^port, {:data, more}} -> {:ok, have <> more}
      {^port, {:exit_status, code}} -> {:error, "zamba ended with code #{code}"}
    after
      5_000 -> {:error, "no answer within 5 seconds"}
    end
  end
end

case System.argv() do
  [model] ->
    backbone = Zamba.Backbone.open(model, 32, 64)

    for t <- 0..59 do
      frame = for i <- 1..32, do: :math.sin(0.05 * t * i)

      case :timer.tc(fn -> Zamba.Backbone.step(backbone, frame) end) do
        {microseconds, {:ok, vector}} ->
          [first | _] = Zamba.Backbone.floats(vector)
          IO.puts("frame #{t}: #{Float.round(first, 4)} ... in #{microseconds} us")

        {_, {:error, why}} ->
          IO.puts(:stderr, "backbone_port: frame #{t}: #{why}")
          System.halt(1)
      end
    end

    Zamba.Backbone.close(backbone)

  _ ->
    IO.puts(:stderr, "usage: elixir backbone_port.exs MODEL-FOLDER")
    System.halt(2)
end
