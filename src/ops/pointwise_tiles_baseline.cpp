// Tile functions compiled for baseline.
#define TRI_TILE_TABLE tile_table_baseline
#include "ops/pointwise_tiles.inc"
