// paddle.linalg: functions of matrices.
#include "ops/linalg.h"
#include "runtime/call.h"
#include "trireme/math.h"

namespace trireme::linalg {

Tensor inv(const Tensor& x) {
  return call([](Value* v) { return ops::inverse(v); }, x);
}
Tensor det(const Tensor& x) {
  return call([](Value* v) { return ops::determinant(v); }, x);
}

Tensor solve(const Tensor& x, const Tensor& y) {
  const bool vectors = y.ndim() + 1 == x.ndim();
  const Tensor z = call([](Value* a, Value* b) { return ops::solve(a, b); }, x,
                        vectors ? unsqueeze(y, {-1}) : y);
  return vectors ? squeeze(z, {-1}) : z;
}

Tensor cholesky(const Tensor& x, bool upper) {
  return call([=](Value* v) { return ops::cholesky(v, upper); }, x);
}

std::vector<Tensor> svd(const Tensor& x, bool full_matrices) {
  return call([=](Value* v) { return ops::svd(v, full_matrices); }, x);
}

std::vector<Tensor> qr(const Tensor& x, const std::string& mode) {
  TRI_CHECK(mode == "reduced" || mode == "complete" || mode == "r",
            "[qr] mode expects reduced, complete or r, got " + mode);
  std::vector<Tensor> both = call([&](Value* v) { return ops::qr(v, mode == "complete"); }, x);
  if (mode == "r") both.erase(both.begin());
  return both;
}

std::vector<Tensor> eigh(const Tensor& x, const std::string& uplo) {
  TRI_CHECK(uplo == "L" || uplo == "U", "[eigh] uplo expects L or U, got " + uplo);
  return call([&](Value* v) { return ops::eigh(v, uplo == "U"); }, x);
}

}  // namespace trireme::linalg
