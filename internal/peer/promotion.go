package peer

import (
	"context"

	"google.golang.org/grpc/metadata"
)

// promotionKey is the metadata of a call with the promotion that it is made for.
const promotionKey = "dkv-promotion"

// ForPromotion returns a context of calls that are made for a promotion.
func ForPromotion(ctx context.Context, id string) context.Context {
	return metadata.AppendToOutgoingContext(ctx, promotionKey, id)
}

// PromotionOf returns the promotion that an incoming call is made for; empty for none.
func PromotionOf(ctx context.Context) string {
	if ids := metadata.ValueFromIncomingContext(ctx, promotionKey); len(ids) == 1 {
		return ids[0]
	}
	return ""
}
