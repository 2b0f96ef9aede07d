// The optimizers' loops for AVX-512.
#define TRI_RULES kRulesAvx512
#include "ops/optimizer_rules.inc"
