#include "rollout/request_queue.h"

void request_list_insert(struct request_list *list, struct request *after, struct request *r)
{
    r->previous = after;
    r->next = after != NULL ? after->next : list->first;
    *(r->next != NULL ? &r->next->previous : &list->last) = r;
    *(after != NULL ? &after->next : &list->first) = r;
}

void request_list_append(struct request_list *list, struct request *r) { request_list_insert(list, list->last, r); }

void request_list_remove(struct request_list *list, struct request *r)
{
    *(r->previous != NULL ? &r->previous->next : &list->first) = r->next;
    *(r->next != NULL ? &r->next->previous : &list->last) = r->previous;
    r->previous = r->next = NULL;
}

void sequence_list_append(struct sequence_list *list, struct sequence *s)
{
    s->next = NULL;
    *(list->last != NULL ? &list->last->next : &list->first) = s;
    list->last = s;
}

struct sequence *sequence_list_pop(struct sequence_list *list)
{
    struct sequence *s = list->first;
    if (s != NULL && (list->first = s->next) == NULL)
        list->last = NULL;
    return s;
}

void sequence_list_remove(struct sequence_list *list, const struct sequence *s)
{
    struct sequence *before = NULL;
    for (struct sequence *at = list->first; at != NULL; before = at, at = at->next)
        if (at == s) {
            *(before != NULL ? &before->next : &list->first) = s->next;
            if (list->last == s)
                list->last = before;
            return;
        }
}
