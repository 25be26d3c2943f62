// SPDX-License-Identifier: Apache-2.0
//
// Vertices for tests of the model of Poplar.
#include <poplar/HalfFloat.hpp>
#include <poplar/Vertex.hpp>

using namespace poplar;

template <typename T> class Increment : public Vertex {
public:
  Increment();

  Input<Vector<T>> in;
  Output<Vector<T>> out;
  const T by;

  bool compute() {
    for (unsigned i = 0; i < in.size(); ++i)
      out[i] = in[i] + by;
    return true;
  }
};

template class Increment<float>;
template class Increment<half>;
template class Increment<int>;

// Half arithmetic: out = {a + b, a - b, a * b, a / b}.
class HalfArithmetic : public Vertex {
public:
  Input<Vector<half>> a;
  Input<Vector<half, VectorLayout::ONE_PTR>> b;
  Output<Vector<half, VectorLayout::ONE_PTR>> out;

  bool compute() {
    for (unsigned i = 0; i < a.size(); ++i) {
      out[4 * i] = a[i] + b[i];
      out[4 * i + 1] = a[i] - b[i];
      out[4 * i + 2] = a[i] * b[i];
      out[4 * i + 3] = a[i] / b[i];
    }
    return true;
  }
};

class ToHalf : public Vertex {
public:
  Input<Vector<float>> in;
  Output<Vector<half, VectorLayout::ONE_PTR>> out;

  bool compute() {
    for (unsigned i = 0; i < in.size(); ++i)
      out[i] = static_cast<half>(in[i]);
    return true;
  }
};

class ToFloat : public Vertex {
public:
  Input<Vector<half>> in;
  Output<Vector<float, VectorLayout::ONE_PTR>> out;

  bool compute() {
    for (unsigned i = 0; i < in.size(); ++i)
      out[i] = static_cast<float>(in[i]);
    return true;
  }
};

// count += 1; below = count < limit
class Count : public Vertex {
public:
  Count();

  InOut<int> count;
  Output<bool> below;
  const int limit;

  void compute() {
    *count = *count + 1;
    *below = *count < limit;
  }
};

// A scalar field of each direction.
class Scalars : public Vertex {
public:
  Input<int> in;
  Output<int> out;
  InOut<int> inOut;

  bool compute() {
    *out = *in + *inOut;
    *inOut = *out;
    return true;
  }
};

// Reads what it should have written.
class Forgetful : public Vertex {
public:
  Output<Vector<int>> out;

  bool compute() {
    out[1] = out[0];
    return true;
  }
};
