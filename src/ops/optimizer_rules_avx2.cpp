// The optimizers' loops for AVX2.
#define TRI_RULES kRulesAvx2
#include "ops/optimizer_rules.inc"
