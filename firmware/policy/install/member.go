package install

import (
	"context"
	"errors"
	"slices"
)

// SetMembers says who is in the cluster now.
func (n *Node) SetMembers(members []uint8) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.members = members
}

// all are the members now.
func (n *Node) all() []uint8 {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.members == nil {
		return slices.Clone(n.Members)
	}
	return slices.Clone(n.members)
}

// taking are the members that take part in the install of a document.
func (n *Node) taking(document []byte) []uint8 {
	all := n.all()
	if n.MembersOf == nil {
		return all
	}
	its := n.MembersOf(document)
	return slices.DeleteFunc(all, func(m uint8) bool { return m != n.Self && !slices.Contains(its, m) })
}

// Restore puts the stored policy in force again, without the recovery order: when only this process was restarted.
func (n *Node) Restore(ctx context.Context) error {
	release, err := n.acquire(ctx, true, "its policy is being put in force again")
	if err != nil {
		return err
	}
	defer release()
	st := n.store().State()
	if st.Current == "" {
		return errors.New("there is no policy in the store")
	}
	a, err := n.store().Load(st.Current)
	if err == nil {
		err = n.Fetcher.Accept(a)
	}
	if err != nil {
		return err
	}
	return n.Fetcher.Apply(ctx, a.Document)
}

// Uninstall takes the policy out of force on this member alone. The store keeps it.
func (n *Node) Uninstall(ctx context.Context) error {
	release, err := n.acquire(ctx, false, "its policy is being uninstalled")
	if err != nil {
		return err
	}
	defer release()
	switch r := n.Record(); {
	case r.Prepared != nil:
		return &BusyError{Transaction: r.Prepared.Transaction}
	case r.Pending != nil:
		return &BusyError{Transaction: r.Pending.Transaction, Confirming: true}
	}
	return n.Fetcher.Apply(ctx, nil)
}

// Refusers are the members that rejected what this one runs, as far as it has asked them since its start.
func (n *Node) Refusers() []uint8 {
	current := n.store().State().Current
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.refused != current {
		return nil
	}
	return slices.Clone(n.refusers)
}
