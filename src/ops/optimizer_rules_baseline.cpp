// The optimizers' loops for every processor.
#define TRI_RULES kRulesBaseline
#include "ops/optimizer_rules.inc"
